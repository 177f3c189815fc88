"""Email: by Resend, or by SMTP."""

from __future__ import annotations

import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final
from urllib.parse import unquote, urlsplit

from fourlane.providers.messages.call import REASON_CHARACTERS, check, post_json, reason_of, text_in
from fourlane.providers.messages.message import Impossible, Message, NotTaken, OneAccount, Receipt, Unclear

__all__ = ["Resend", "Smtp"]


class Resend(OneAccount):
    """Email by Resend's HTTP API."""

    provider = "resend"

    def __init__(self, api_key: str, *, sender: str, url: str, timeout_seconds: float) -> None:
        super().__init__(api_key)
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
        answer = post_json(
            f"{self._url}/emails",
            {name: value for name, value in body.items() if value is not None},
            headers=self._headers | {"idempotency-key": f"fourlane/{key}"},
            timeout_seconds=self._timeout_seconds,
            repeatable=True,
        )
        if answer.status == 409 and b"concurrent_idempotent" in answer.body:
            raise Unclear("an earlier attempt is still under way at Resend", down=False)
        if answer.status == 409:
            raise Impossible(f"it was given to Resend before, with another content: {reason_of(answer)}")
        check(answer, self.provider)
        return Receipt(text_in(answer, "id"))


_SMTP_POLICY: Final = SMTP.clone(cte_type="7bit")  # CRLF, and no need of 8BITMIME


class Smtp(OneAccount):
    """Email by SMTP: a mailbox for development, or another provider."""

    provider = "smtp"

    def __init__(self, url: str, *, sender: str, timeout_seconds: float) -> None:
        super().__init__(url)
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
            reason = f"SMTP: {type(error).__name__}: {error}"[:REASON_CHARACTERS]
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
    reason = f"SMTP {code}: {' '.join(text.split())}"[:REASON_CHARACTERS]
    if code < 500:
        raise NotTaken(reason, down=code == 421)  # 421: no service at all; others are about this mailbox
    # 5.1.1 is "no such mailbox"; other refusals may be about us.
    raise Impossible(reason, address_is_dead=address and text.startswith("5.1.1"))
