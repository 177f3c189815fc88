"""Whether a request is from whom it says: signature and age, over the raw bytes. Pure, but for PayPal's certificate.

=========  ==============================================  ================================  =====================
provider   proof                                           age                               id
=========  ==============================================  ================================  =====================
stripe     ``Stripe-Signature``: HMAC by its SDK           signed ``t``                      ``id``
paypal     certificate signature, or PayPal asked          signed transmission time          ``id``
supabase   auth hooks: Standard Webhooks                   signed ``webhook-timestamp``      ``webhook-id``
supabase   database webhooks: a shared secret in a header  none                              INSERT: hash of the body
=========  ==============================================  ================================  =====================

A database webhook carries neither an id nor a time. The same INSERT twice is a repetition; an UPDATE that looks like
one before it may well be another, so each gets an id of its own, and its handler must bear repetition.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fourlane.webhooks.refused import Refused, Unverifiable

if TYPE_CHECKING:
    from fourlane.webhooks.paypal import PayPal

__all__ = ["PROVIDERS", "TOLERANCE_SECONDS", "Refused", "Senders", "Unverifiable", "Verified", "verify"]

PROVIDERS: Final = ("stripe", "paypal", "supabase")
TOLERANCE_SECONDS: Final = 300
_MAX_ID: Final = 200


@dataclass(frozen=True, slots=True)
class Verified:
    """A request that is the provider's.

    Parameters:
      id: the event's id; the same in every delivery of it.
      type: the provider's name for what happened, e.g. ``invoice.paid``.
      sent_at_seconds: when this delivery was signed (Unix time); None where the provider does not say.
      created_at_ms: when it happened, as far as the event says; else None.
      subject: the id of the thing that it happened to, e.g. ``in_…``; empty when it names none.
      payload: the event's JSON.
    """

    provider: str
    id: str
    type: str
    sent_at_seconds: int | None
    created_at_ms: int | None
    subject: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Senders:
    """What the providers sign with. Several secrets are all valid, as while one is being replaced.

    Parameters:
      stripe_secrets: of the endpoint, ``whsec_…``.
      paypal: see `fourlane.webhooks.paypal.PayPal`.
      supabase_secrets: what database webhooks carry in the header ``x-webhook-secret`` or as a bearer token.
      supabase_hook_secrets: of auth hooks, ``v1,whsec_…``.
      tolerance_seconds: how far a signed time may be from our clock, either way.
    """

    stripe_secrets: Sequence[str] = field(default=(), repr=False)
    paypal: PayPal | None = None
    supabase_secrets: Sequence[str] = field(default=(), repr=False)
    supabase_hook_secrets: Sequence[str] = field(default=(), repr=False)
    tolerance_seconds: int = TOLERANCE_SECONDS


def verify(
    provider: str, headers: Mapping[str, str], raw_body: bytes, *, senders: Senders, now_seconds: float
) -> Verified:
    """Return what the provider sent.

    Parameters:
      headers: the request's; names in any case.
      raw_body: the bytes as they came: JSON that was parsed and written again has another signature.

    Raises:
      Refused: it is not genuine, too old, from the future, or no event at all.
      Unverifiable: it cannot be said now.
    """
    check = _CHECKS.get(provider)
    if check is None:
        raise Refused("unknown provider", repr(provider[:40]))
    return check({name.lower(): value for name, value in headers.items()}, raw_body, senders, now_seconds)


# --- Stripe ----------------------------------------------------------------------------------------


def _stripe(headers: Mapping[str, str], body: bytes, senders: Senders, now: float) -> Verified:
    import stripe

    if not senders.stripe_secrets:
        raise Refused("not configured", "no signing secret for stripe")
    header = headers.get("stripe-signature", "")
    for secret in senders.stripe_secrets:
        try:
            stripe.WebhookSignature.verify_header(body, header, secret)
            break
        except (stripe.SignatureVerificationError, UnicodeDecodeError):
            pass
    else:
        raise Refused("signature", "no secret of ours made it" if header else "there is none")
    # The SDK looks only at the past, and at its own clock. The header was read by it just now, so its time is one.
    sent_at = next(int(part.split("=")[1]) for part in header.split(",") if part.startswith("t="))
    _check_age(sent_at, senders, now)
    event = _object(body)
    thing = event.get("data", {}).get("object", {}) if isinstance(event.get("data"), dict) else {}
    return Verified(
        provider="stripe",
        id=_text(event, "id"),
        type=_text(event, "type"),
        sent_at_seconds=sent_at,
        created_at_ms=event["created"] * 1000 if isinstance(event.get("created"), int) else None,
        subject=str(thing.get("id", "")) if isinstance(thing, dict) else "",
        payload=event,
    )


# --- PayPal ----------------------------------------------------------------------------------------


def _paypal(headers: Mapping[str, str], body: bytes, senders: Senders, now: float) -> Verified:
    from fourlane.webhooks import paypal

    if senders.paypal is None:
        raise Refused("not configured", "no webhook id for paypal")
    sent = paypal.read_transmission(headers)
    sent_at = _epoch_seconds(sent.time)
    if sent_at is None:
        raise Refused("malformed", "its transmission time is none")
    _check_age(sent_at, senders, now)
    senders.paypal.check(sent, body, now_seconds=now)
    event = _object(body)
    created_at = _epoch_seconds(str(event.get("create_time", "")))
    resource = event.get("resource")
    return Verified(
        provider="paypal",
        id=_text(event, "id"),
        type=_text(event, "event_type"),
        sent_at_seconds=sent_at,
        created_at_ms=None if created_at is None else created_at * 1000,
        subject=str(resource.get("id", "")) if isinstance(resource, dict) else "",
        payload=event,
    )


# --- Supabase --------------------------------------------------------------------------------------


def _supabase(headers: Mapping[str, str], body: bytes, senders: Senders, now: float) -> Verified:
    if "webhook-signature" in headers:
        return _supabase_hook(headers, body, senders, now)
    if not senders.supabase_secrets:
        raise Refused("not configured", "no shared secret for supabase's database webhooks")
    given = headers.get("x-webhook-secret") or headers.get("authorization", "").removeprefix("Bearer ")
    # All are compared, so that the time taken does not tell which is close.
    if not any(hmac.compare_digest(given.encode(), secret.encode()) for secret in senders.supabase_secrets):
        raise Refused("signature", "not our shared secret" if given else "there is no shared secret")
    event = _object(body)
    kind, table = _text(event, "type"), _text(event, "table")
    digest = hashlib.sha256(body).hexdigest()
    record = event.get("record")
    return Verified(
        provider="supabase",
        id=f"insert-{digest}" if kind == "INSERT" else f"{kind.lower()}-{uuid.uuid4().hex}",
        type=f"{table}.{kind.lower()}",
        sent_at_seconds=None,
        created_at_ms=None,
        subject=f"{table}:{record['id']}" if isinstance(record, dict) and "id" in record else "",
        payload=event,
    )


def _supabase_hook(headers: Mapping[str, str], body: bytes, senders: Senders, now: float) -> Verified:
    if not senders.supabase_hook_secrets:
        raise Refused("not configured", "no secret for supabase's auth hooks")
    webhook_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) < 12) or not webhook_id:
        raise Refused("malformed", "it has no webhook-id or webhook-timestamp")
    _check_standard_signature(headers["webhook-signature"], webhook_id, int(sent_at), body, senders)
    _check_age(int(sent_at), senders, now)
    event = _object(body)
    return Verified(
        provider="supabase",
        id=_text({"id": webhook_id}, "id"),
        type=str(event.get("type") or "auth.hook"),
        sent_at_seconds=int(sent_at),
        created_at_ms=int(sent_at) * 1000,
        subject="",
        payload=event,
    )


def _check_standard_signature(given: str, webhook_id: str, sent_at: int, body: bytes, senders: Senders) -> None:
    import standardwebhooks

    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Refused("malformed", "its body is not UTF-8") from None
    offered = [signature.encode() for signature in given.split() if signature.startswith("v1,")]
    for secret in senders.supabase_hook_secrets:
        # Its verify() asks the clock itself; its sign() takes the time, so that ours can be a test's.
        webhook = standardwebhooks.Webhook(secret.removeprefix("v1,"))
        wanted = webhook.sign(webhook_id, datetime.fromtimestamp(sent_at).astimezone(), text).encode()
        if any(hmac.compare_digest(signature, wanted) for signature in offered):
            return
    raise Refused("signature", "no secret of ours made it")


# --- Shared ----------------------------------------------------------------------------------------


def _check_age(sent_at: int, senders: Senders, now: float) -> None:
    off = now - sent_at
    if abs(off) > senders.tolerance_seconds:
        # Also what a wrong clock of ours looks like, hence the figure.
        raise Refused("age", f"signed {abs(off):.0f} s {'ago' if off > 0 else 'ahead of our clock'}")


def _epoch_seconds(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int(moment.timestamp()) if moment.tzinfo is not None else None


def _object(body: bytes) -> dict[str, Any]:
    try:
        event = msgspec.json.decode(body)  # as jobs are read: no NaN, no half of a character
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("malformed", "its body is not JSON") from None
    if not isinstance(event, dict):
        raise Refused("malformed", "its body is not a JSON object")
    return event


def _text(event: Mapping[str, Any], key: str) -> str:
    value = event.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_ID or not value.isprintable():
        raise Refused("malformed", f"it has no {key}")
    return value


_CHECKS: Final[Mapping[str, Callable[[Mapping[str, str], bytes, Senders, float], Verified]]] = {
    "stripe": _stripe,
    "paypal": _paypal,
    "supabase": _supabase,
}
