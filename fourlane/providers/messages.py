"""Calls to those who carry messages: Resend or SMTP, Twilio, push services, Slack, PagerDuty.

How a call ends is one of four: a :class:`Receipt`; :class:`NotTaken`, surely not sent, later it may be;
:class:`Impossible`, surely not sent, and it never will be; :class:`Unclear`, nobody here knows whether it was sent.

Who can tell a repeated call from a new one, by the key that we send: Resend (for 24 hours) and PagerDuty. Twilio is
asked what it has before a call is repeated. A push service replaces a message that waits by one of the same topic.
SMTP and Slack can do none of this.
"""

from __future__ import annotations

import base64
import hashlib
import json
import smtplib
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlencode, urlsplit

from fourlane.errors import FourlaneError, SettingsError
from fourlane.providers import http

__all__ = [
    "Carrier",
    "Impossible",
    "Message",
    "NotTaken",
    "PagerDuty",
    "Receipt",
    "Resend",
    "Slack",
    "Smtp",
    "Twilio",
    "Unclear",
    "WebPush",
]

_KEEP_BODY_BYTES: Final = 65_536
_LOOKUP_BYTES: Final = 1_048_576
_REASON_CHARACTERS: Final = 200
_AGAIN_SECONDS: Final = (0.1, 0.2, 0.4)
_NEVER_ARRIVED: Final = ("DNS", "connection refused", "unreachable", "TLS")


class NotTaken(FourlaneError):
    """The provider did not take it this time, or was not reached. Nothing was sent.

    Attributes:
      response: the provider's answer, which may say when to come again; None when none came.
    """

    def __init__(self, reason: str, response: http.Response | None = None) -> None:
        self.response = response
        super().__init__(reason)


class Impossible(FourlaneError):
    """It will never be taken as it is. Nothing was sent.

    Attributes:
      address_is_dead: no message of this channel will ever reach this address.
    """

    def __init__(self, reason: str, *, address_is_dead: bool = False) -> None:
        self.address_is_dead = address_is_dead
        super().__init__(reason)


class Unclear(FourlaneError):
    """The call broke off, or its answer makes no sense: it may have been sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is sent. Each carrier uses the parts that its channel has."""

    to: Any = None
    """An address, a phone number, or a push subscription."""
    subject: str = ""
    text: str = ""
    html: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """More headers of an email."""
    urgent: bool = False
    severity: str = "error"
    source: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    incident: str = ""
    """What an alert is about: alerts of one incident are one to PagerDuty."""
    resolved: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """It was taken.

    Parameters:
      message_id: the provider's, by which its later reports name the message; empty where it gives none.
    """

    message_id: str


class Carrier(Protocol):
    """One provider's way to send."""

    @property
    def provider(self) -> str: ...

    def send(self, message: Message, *, key: str, since: datetime | None) -> Receipt:
        """Send.

        Parameters:
          key: the same in every attempt for one message, and never used for another.
          since: when an earlier attempt, whose end nobody saw, was made at the earliest; None when there was none.

        Raises:
          NotTaken, Impossible, Unclear
        """
        ...


class Resend:
    """Email by Resend's HTTP API."""

    provider = "resend"

    def __init__(self, api_key: str, *, sender: str, url: str, timeout_seconds: float) -> None:
        self._headers = {"authorization": f"Bearer {api_key}"}
        self._sender = sender
        self._url = url
        self._timeout_seconds = timeout_seconds

    def send(self, message: Message, *, key: str, since: datetime | None) -> Receipt:
        body = {
            "from": self._sender,
            "to": [message.to],
            "subject": message.subject,
            "text": message.text,
            "html": message.html or None,
            "headers": dict(message.headers) or None,
            # Comes back in each of Resend's reports: they may arrive before its answer does.
            "tags": [{"name": "fourlane_record", "value": key}],
        }
        answer = _post_json(
            f"{self._url}/emails",
            {name: value for name, value in body.items() if value is not None},
            headers=self._headers | {"idempotency-key": f"fourlane/{key}"},
            timeout_seconds=self._timeout_seconds,
            repeatable=True,
        )
        if answer.status == 409 and b"concurrent_idempotent" in answer.body:
            raise Unclear("an earlier attempt is still under way at Resend")
        if answer.status == 409:
            raise Impossible(f"it was given to Resend before, with another content: {_reason(answer)}")
        _check(answer, self.provider)
        return Receipt(_text_in(answer, "id"))


_SMTP_POLICY: Final = SMTP.clone(cte_type="7bit")  # CRLF, and no need of 8BITMIME


class Smtp:
    """Email by SMTP: a mailbox for development, or another provider."""

    provider = "smtp"

    def __init__(self, url: str, *, sender: str, timeout_seconds: float) -> None:
        self._parts = urlsplit(url)
        self._sender = sender
        self._timeout_seconds = timeout_seconds

    def send(self, message: Message, *, key: str, since: datetime | None) -> Receipt:
        domain = self._sender.rpartition("@")[2].rstrip("> ")
        mail = EmailMessage(policy=_SMTP_POLICY)
        mail["From"] = self._sender
        mail["To"] = message.to
        mail["Subject"] = message.subject
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail["Message-ID"] = f"<{key}@{domain}>"  # mailboxes that drop repetitions go by it
        for name, value in message.headers.items():
            mail[name] = value
        mail.set_content(message.text)
        if message.html:
            mail.add_alternative(message.html, subtype="html")
        self._deliver(mail, message.to)
        return Receipt(str(mail["Message-ID"]))

    def _deliver(self, mail: EmailMessage, to: str) -> None:
        handed_over = taken = False
        try:
            with self._connect() as connection:
                connection.ehlo_or_helo_if_needed()
                envelope_sender = self._sender.rpartition("<")[2].rstrip("> ")
                _obey(*connection.mail(envelope_sender))
                _obey(*connection.rcpt(to), address=True)
                handed_over = True
                _obey(*connection.data(mail.as_bytes()))
                taken = True
        except smtplib.SMTPAuthenticationError as error:
            raise Impossible(f"the mail server refuses our login (SMTP {error.smtp_code})") from None
        except (OSError, smtplib.SMTPException) as error:
            if taken:
                return  # only the good-bye went wrong
            if isinstance(error, smtplib.SMTPResponseException):
                _obey(error.smtp_code, error.smtp_error)
            reason = f"SMTP: {type(error).__name__}: {error}"[:_REASON_CHARACTERS]
            raise (Unclear(reason) if handed_over else NotTaken(reason)) from None

    def _connect(self) -> smtplib.SMTP:
        host, port = self._parts.hostname or "", self._parts.port
        connection: smtplib.SMTP
        if self._parts.scheme == "smtps":
            context = ssl.create_default_context()
            connection = smtplib.SMTP_SSL(host, port or 465, timeout=self._timeout_seconds, context=context)
        else:
            connection = smtplib.SMTP(host, port or 25, timeout=self._timeout_seconds)
            connection.ehlo_or_helo_if_needed()
            if connection.has_extn("starttls"):
                connection.starttls(context=ssl.create_default_context())
        if self._parts.username:
            connection.login(unquote(self._parts.username), unquote(self._parts.password or ""))
        return connection


def _obey(code: int, answer: bytes | str, *, address: bool = False) -> None:
    if code < 400:
        return
    text = answer.decode("utf-8", errors="replace") if isinstance(answer, bytes) else answer
    reason = f"SMTP {code}: {' '.join(text.split())}"[:_REASON_CHARACTERS]
    if code < 500:
        raise NotTaken(reason)
    # 5.1.1 is "no such mailbox"; other refusals may be about us.
    raise Impossible(reason, address_is_dead=address and text.startswith("5.1.1"))


class Twilio:
    """SMS by Twilio's API. It takes no idempotency key: before a repetition its own list is asked."""

    provider = "twilio"

    # Unsubscribed by STOP; no such number; no mobile; unknown handset; landline.
    _DEAD_ADDRESS: Final = (21610, 21211, 21614, 30005, 30006)
    _CLOCK_SKEW: Final = timedelta(seconds=60)

    def __init__(
        self,
        account: str,
        token: str,
        *,
        sender: str,
        url: str,
        status_url: str,
        timeout_seconds: float,
        is_known: Callable[[str], bool],
    ) -> None:
        login = base64.b64encode(f"{account}:{token}".encode()).decode()
        self._headers = {"authorization": f"Basic {login}"}
        self._messages = f"{url}/2010-04-01/Accounts/{account}/Messages.json"
        self._sender = sender
        self._status_url = status_url
        self._timeout_seconds = timeout_seconds
        self._is_known = is_known

    def send(self, message: Message, *, key: str, since: datetime | None) -> Receipt:
        if since is not None:
            found = self._find(message, since - self._CLOCK_SKEW)
            if found is not None:
                return Receipt(found)
        form = {"To": message.to, "Body": message.text}
        form["MessagingServiceSid" if self._sender.startswith("MG") else "From"] = self._sender
        if self._status_url:
            form["StatusCallback"] = f"{self._status_url}?{urlencode({'record': key})}"
        answer = _call(
            lambda seconds: http.post(
                self._messages,
                body=urlencode(form).encode(),
                headers=self._headers | {"content-type": "application/x-www-form-urlencoded"},
                timeout_seconds=seconds,
                allow_private=True,
                max_redirects=0,
                keep_body_bytes=_KEEP_BODY_BYTES,
            ),
            self._timeout_seconds,
            repeatable=False,
        )
        code = _json(answer).get("code") if answer.status == 400 else None
        if code in self._DEAD_ADDRESS:
            raise Impossible(_reason(answer), address_is_dead=True)
        _check(answer, self.provider)
        return Receipt(_text_in(answer, "sid"))

    def _find(self, message: Message, since: datetime) -> str | None:
        """The message that an earlier attempt of ours has made, if it made one."""
        answer = _call(
            lambda seconds: http.get(
                f"{self._messages}?{urlencode({'To': message.to, 'PageSize': 100})}",
                headers=self._headers,
                timeout_seconds=seconds,
                allow_private=True,
                keep_body_bytes=_LOOKUP_BYTES,
            ),
            self._timeout_seconds,
            repeatable=True,
        )
        if answer.status != 200:
            raise Unclear(f"Twilio cannot say whether it was sent: {_reason(answer)}")
        rows = _json(answer).get("messages")
        if not isinstance(rows, list):
            raise Unclear("Twilio cannot say whether it was sent: its list is not readable")
        for row in rows:
            if row.get("body") == message.text and _created(row) >= since and not self._is_known(row["sid"]):
                return str(row["sid"])
        return None


def _created(row: Mapping[str, Any]) -> datetime:
    try:
        return parsedate_to_datetime(row["date_created"])
    except (KeyError, TypeError, ValueError):
        raise Unclear("Twilio cannot say whether it was sent: its list is not readable") from None


class WebPush:
    """Push to browsers: encrypted for the browser (RFC 8291), signed by our VAPID key (RFC 8292).

    Raises SettingsError for a key that is none.
    """

    provider = "webpush"
    _KEEP_SECONDS: Final = 86_400
    _TOKEN_SECONDS: Final = 43_200

    def __init__(self, private_key: str, *, contact: str, allow_private: bool, timeout_seconds: float) -> None:
        try:
            import py_vapid
        except ModuleNotFoundError as error:
            raise SettingsError(f"push needs the package {error.name}; pip install 'fourlane[notifications]'") from None
        try:
            self._vapid = py_vapid.Vapid.from_string(private_key)
        except Exception:  # its text may hold the key
            raise SettingsError(
                "FOURLANE_VAPID_PRIVATE_KEY is no VAPID key; docs/notifications.md says how to make one"
            ) from None
        self._contact = contact
        self._allow_private = allow_private
        self._timeout_seconds = timeout_seconds

    def send(self, message: Message, *, key: str, since: datetime | None) -> Receipt:
        import pywebpush

        endpoint = message.to["endpoint"]
        parts = urlsplit(endpoint)
        # The tag makes the browser show a repeated message in the place of the first.
        content = {"title": message.subject, "body": message.text, "tag": key, "data": dict(message.details)}
        try:
            sealed = pywebpush.WebPusher(message.to).encode(json.dumps(content).encode(), "aes128gcm")
        except Exception as error:
            raise Impossible(f"the subscription's keys cannot be used: {type(error).__name__}") from None
        claims = {
            "aud": f"{parts.scheme}://{parts.netloc}",
            "exp": int(time.time()) + self._TOKEN_SECONDS,
            "sub": self._contact,
        }
        headers = {
            **self._vapid.sign(claims),
            "content-encoding": "aes128gcm",
            "content-type": "application/octet-stream",
            "ttl": str(self._KEEP_SECONDS),
            "urgency": "high" if message.urgent else "normal",
            # 32 base64url characters at most; messages of one topic replace each other at the push service.
            "topic": base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()[:24]).decode(),
        }
        answer = _call(
            lambda seconds: http.post(
                endpoint,
                body=sealed["body"],
                headers=headers,
                timeout_seconds=seconds,
                allow_private=self._allow_private,
                max_redirects=0,
            ),
            self._timeout_seconds,
            repeatable=True,
        )
        if answer.status in (404, 410):
            raise Impossible(f"the subscription has ended: {_reason(answer)}", address_is_dead=True)
        _check(answer, self.provider)
        return Receipt(answer.headers.get("location", ""))


class Slack:
    """Alerts to the channel of an incoming webhook."""

    provider = "slack"

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds

    def send(self, message: Message, *, key: str, since: datetime | None) -> Receipt:
        text = f"*{message.subject}*\n{message.text}" if message.subject and message.text else message.subject
        answer = _post_json(
            self._url, {"text": text or message.text}, headers={}, timeout_seconds=self._timeout_seconds
        )
        _check(answer, self.provider)
        return Receipt("")


class PagerDuty:
    """Alerts to a service, by the Events API v2."""

    provider = "pagerduty"

    def __init__(self, routing_key: str, *, url: str, timeout_seconds: float) -> None:
        self._routing_key = routing_key
        self._url = url
        self._timeout_seconds = timeout_seconds

    def send(self, message: Message, *, key: str, since: datetime | None) -> Receipt:
        incident = (message.incident or key)[:255]
        body: dict[str, Any] = {
            "routing_key": self._routing_key,
            "event_action": "resolve" if message.resolved else "trigger",
            "dedup_key": incident,
            "payload": {
                "summary": (message.subject or message.text)[:1024],
                "source": message.source or "fourlane",
                "severity": message.severity,
                "custom_details": dict(message.details) | ({"text": message.text} if message.text else {}),
            },
        }
        answer = _post_json(
            f"{self._url}/v2/enqueue", body, headers={}, timeout_seconds=self._timeout_seconds, repeatable=True
        )
        _check(answer, self.provider)
        return Receipt(incident)


# --- One call --------------------------------------------------------------------------------------


def _post_json(
    url: str, content: Any, *, headers: Mapping[str, str], timeout_seconds: float, repeatable: bool = False
) -> http.Response:
    body = json.dumps(content).encode()
    # The addresses are those of settings: they may be on this machine.
    return _call(
        lambda seconds: http.post(
            url,
            body=body,
            headers={"content-type": "application/json"} | dict(headers),
            timeout_seconds=seconds,
            allow_private=True,
            max_redirects=0,
            keep_body_bytes=_KEEP_BODY_BYTES,
        ),
        timeout_seconds,
        repeatable=repeatable,
    )


def _call(request: Callable[[float], http.Response], timeout_seconds: float, *, repeatable: bool) -> http.Response:
    """Call, and again after 100, 200 and 400 ms where that can help and can do no harm, all within the time.

    Parameters:
      repeatable: whether a second call with the same content does no harm when the first one arrived.
    """
    deadline = time.monotonic() + timeout_seconds
    for pause in (*_AGAIN_SECONDS, None):
        arrived, error, answer = True, "", None
        try:
            answer = request(deadline - time.monotonic())
        except http.TargetRefused as refused:
            raise Impossible(str(refused)) from None
        except http.TransportError as failed:
            arrived, error = failed.reason not in _NEVER_ARRIVED, str(failed)
        if answer is not None and answer.status < 500:
            return answer
        may_repeat = repeatable or not arrived
        if pause is not None and may_repeat and time.monotonic() + pause < deadline:
            time.sleep(pause)
            continue
        if answer is not None:
            return answer
        if arrived:
            raise Unclear(error)
        raise NotTaken(error)
    raise AssertionError("the last round returns or raises")


def _check(answer: http.Response, provider: str) -> None:
    if answer.status < 300:
        return
    if answer.status in (401, 403):
        raise Impossible(f"{provider} refuses our key: {_reason(answer)}")
    if answer.status in (408, 425, 429):
        raise NotTaken(_reason(answer), answer)
    if answer.status >= 500:
        raise Unclear(_reason(answer))
    raise Impossible(_reason(answer))


def _reason(answer: http.Response) -> str:
    try:
        status = f"HTTP {answer.status} {HTTPStatus(answer.status).phrase}"
    except ValueError:
        status = f"HTTP {answer.status}"
    content = _json(answer)
    code, text = content.get("code") or content.get("name"), content.get("message")
    said = f"{code}: {text}" if code and text else text or " ".join(answer.body.decode("utf-8", "replace").split())
    return f"{status}: {said}"[:_REASON_CHARACTERS] if said else status


def _json(answer: http.Response) -> dict[str, Any]:
    try:
        content = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _text_in(answer: http.Response, name: str) -> str:
    value = _json(answer).get(name)
    if not isinstance(value, str) or not value:
        raise Unclear(f"HTTP {answer.status}, but its body cannot be read")
    return value
