"""What providers report of messages later: delivered, bounced, complained. Signed by them; what is not, is refused."""

from __future__ import annotations

import base64
import hmac
import json
import uuid
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlsplit

from fourlane.errors import FourlaneError
from fourlane.providers.messages.resend import COPIES, RECORD
from fourlane.providers.messages.sms import DEAD_NUMBERS
from fourlane.tasks.notifications.ledger import Ledger

__all__ = ["Forged", "Unreadable", "resend", "twilio"]

_Status = Literal["sent", "delivered", "bounced", "complained"]
_RESEND: Final[Mapping[str, _Status]] = {
    "email.sent": "sent",
    "email.delivered": "delivered",
    "email.bounced": "bounced",
    "email.failed": "bounced",
    "email.complained": "complained",
}
_TWILIO: Final[Mapping[str, _Status]] = {
    "sent": "sent",
    "delivered": "delivered",
    "undelivered": "bounced",
    "failed": "bounced",
}
# What a person writes to our number, as a message of one word: Twilio obeys it by itself.
_WORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"), "STOP"),
    **dict.fromkeys(("START", "YES", "UNSTOP"), "START"),
}


class Forged(FourlaneError):
    """The report is not signed by the provider."""


class Unreadable(FourlaneError, ValueError):
    """The report has not the form that the provider's reports have."""


def resend(ledger: Ledger, headers: Mapping[str, str], body: bytes, *, secret: str) -> str | None:
    """Keep a report of Resend's; the status it brought, or None when it is none of ours or of no interest.

    A permanent bounce suppresses the address, also of messages that others have sent: it is dead for all. A complaint
    suppresses it for the tenant whose message it was.

    Parameters:
      headers: of the request; names in lower case.
      secret: the webhook's signing secret, ``whsec_…``.

    Raises:
      Forged, Unreadable, DatabaseUnavailable
    """
    import standardwebhooks

    signed = {f"webhook-{name}": headers.get(f"svix-{name}", "") for name in ("id", "timestamp", "signature")}
    try:
        standardwebhooks.Webhook(secret).verify(body, signed, json_parse=False)
    except (standardwebhooks.WebhookVerificationError, ValueError):
        raise Forged("the signature does not fit") from None
    try:
        event = json.loads(body)
        kind, data = event["type"], event["data"]
        status = _RESEND.get(kind)
        if status is None:
            return None
        message_id, recipients = str(data["email_id"]), [str(one) for one in data.get("to") or [] if one]
        bounce = data.get("bounce") or {}
        detail = str(bounce.get("message") or (data.get("failed") or {}).get("reason") or "")[:500]
        tags = _tags(data)
        record_id = _uuid(tags.get(RECORD))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Unreadable("this is no report of Resend's") from None
    ours = ledger.reported(record_id=record_id, message_id=message_id, status=status, detail=detail)
    permanent = kind == "email.bounced" and bounce.get("type", "Permanent") == "Permanent"
    # Of a message with copies nobody says whose mailbox it was.
    if (permanent or status == "complained") and COPIES not in tags:
        for address in recipients or [ours.address if ours else ""]:
            if permanent:
                ledger.suppress("email", address, reason="bounce", detail=detail)
            else:  # about what this tenant has sent, and nothing of others
                ledger.suppress("email", address, reason="complaint", detail=detail, tenant=ours.tenant if ours else "")
    return status if ours is not None else None


def _tags(data: Mapping[str, Any]) -> dict[str, Any]:
    """Resend writes them as an object, and as a list of name and value."""
    tags = data.get("tags") or {}
    return dict(tags) if isinstance(tags, dict) else {tag["name"]: tag["value"] for tag in tags}


def twilio(ledger: Ledger, url: str, headers: Mapping[str, str], body: bytes, *, token: str) -> str | None:
    """Keep a report of Twilio's; as `resend`. ``received``: it is a message that somebody sent to our number, of which
    STOP and START are obeyed: Twilio sends nothing from our number after a STOP, whoever of our tenants asks it to.

    Parameters:
      url: that Twilio has called, as Twilio knows it: our public address, with its query.
      token: the account's auth token.

    Raises:
      Forged, Unreadable, DatabaseUnavailable
    """
    try:
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
    except (UnicodeDecodeError, ValueError):
        raise Unreadable("this is no report of Twilio's") from None
    text = url + "".join(f"{name}{form[name]}" for name in sorted(form))
    expected = base64.b64encode(hmac.digest(token.encode(), text.encode(), "sha1"))
    if not hmac.compare_digest(expected, headers.get("x-twilio-signature", "").encode()):
        raise Forged("the signature does not fit")
    if form.get("SmsStatus") == "received" or form.get("MessageStatus") == "received":
        _obey(ledger, form)
        return "received"
    status = _TWILIO.get(form.get("MessageStatus", ""))
    message_id = form.get("MessageSid", "")
    if status is None or not message_id:
        return None
    code = form.get("ErrorCode", "")
    record_id = _uuid(dict(parse_qsl(urlsplit(url).query)).get("record"))
    detail = f"Twilio's error {code}" if code else ""
    ours = ledger.reported(record_id=record_id, message_id=message_id, status=status, detail=detail)
    if code in DEAD_NUMBERS and form.get("To"):
        ledger.suppress("sms", form["To"], reason=DEAD_NUMBERS[code], detail=detail)
    return status if ours is not None else None


def _obey(ledger: Ledger, form: Mapping[str, str]) -> None:
    word = form.get("OptOutType") or _WORDS.get(form.get("Body", "").strip().upper(), "")
    sender = form.get("From", "")
    if word == "STOP" and sender:
        ledger.suppress("sms", sender, reason="stop", detail="a STOP to our number")
    elif word == "START" and sender:
        ledger.allow("sms", sender, reason="stop")


def _uuid(text: Any) -> uuid.UUID | None:
    try:
        return uuid.UUID(str(text))
    except ValueError:
        return None
