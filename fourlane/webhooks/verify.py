"""Whether a request is from whom it says: signature and age, over the raw bytes. Pure, but for what PayPal is asked.

=========  ==============================================  ================================  =====================
provider   proof                                           age                               id
=========  ==============================================  ================================  =====================
stripe     ``Stripe-Signature``: HMAC by its SDK           signed ``t``                      ``id``
paypal     certificate signature, or PayPal asked; over a  signed transmission time          ``id``
           CRC-32 of the body: see ``paypal.py``
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

from fourlane.errors import FourlaneError
from fourlane.webhooks.refused import Refused, Unverifiable

if TYPE_CHECKING:
    from fourlane.webhooks.paypal import PayPal

__all__ = ["PROVIDERS", "TOLERANCE_SECONDS", "Refused", "Senders", "Unverifiable", "Verified", "verify"]

PROVIDERS: Final = ("stripe", "paypal", "supabase")
TOLERANCE_SECONDS: Final = 300
_MAX_ID: Final = 200
_MAX_HEADER: Final = 8_192
_MAX_DEPTH: Final = 500
"""Objects and lists in each other. Python follows a thousand, less the calls it is in already, here or in workers."""
_OPERATIONS: Final = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
_LAST_SECOND: Final = 253_402_300_800
"""The year 10000: what is later is no time that anybody can write."""


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
      transmission: the id of this delivery, where the signature alone does not bind the body to it; else empty.
    """

    provider: str
    id: str
    type: str
    sent_at_seconds: int | None
    created_at_ms: int | None
    subject: str
    payload: dict[str, Any]
    transmission: str = ""


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


@dataclass(frozen=True, slots=True)
class _Request:
    """What came. Names of headers are in lower case."""

    headers: Mapping[str, str]
    body: bytes
    now: float
    address: str


def verify(
    provider: str,
    headers: Mapping[str, str],
    raw_body: bytes,
    *,
    senders: Senders,
    now_seconds: float,
    address: str = "",
) -> Verified:
    """Return what the provider sent.

    Parameters:
      headers: the request's; names in any case.
      raw_body: the bytes as they came: JSON that was parsed and written again has another signature.
      address: of the sender, where it is known; what PayPal is asked for one sender is bounded.

    Raises:
      Refused: it is not genuine, too old, from the future, or no event at all.
      Unverifiable: it cannot be said now.
    """
    check = _CHECKS.get(provider)
    if check is None:
        raise Refused("unknown provider", repr(provider[:40]))
    try:
        named = {name.lower(): value for name, value in headers.items()}
        return check(_Request(named, raw_body, now_seconds, address), senders)
    except FourlaneError:
        raise
    except Exception as error:  # of a library, over what no provider sends
        raise Refused("malformed", f"it cannot be read: {type(error).__name__}: {str(error)[:200]}") from error


# --- Stripe ----------------------------------------------------------------------------------------


def _stripe(request: _Request, senders: Senders) -> Verified:
    import stripe

    if not senders.stripe_secrets:
        raise Refused("not configured", "no signing secret for stripe")
    header = request.headers.get("stripe-signature", "")
    if not header.isascii() or len(header) > _MAX_HEADER:
        raise Refused("signature", "it is none of stripe's")
    for secret in senders.stripe_secrets:
        try:
            stripe.WebhookSignature.verify_header(request.body, header, secret)
            break
        except (stripe.SignatureVerificationError, UnicodeDecodeError):
            pass
    else:
        raise Refused("signature", "no secret of ours made it" if header else "there is none")
    # The SDK looks only at the past, and at its own clock. The header was read by it just now, so its time is one.
    sent_at = next(int(part.split("=")[1]) for part in header.split(",") if part.startswith("t="))
    _check_age(sent_at, senders, request.now)
    event = _event(request.body)
    thing = event.get("data", {}).get("object", {}) if isinstance(event.get("data"), dict) else {}
    return Verified(
        provider="stripe",
        id=_text(event, "id"),
        type=_text(event, "type"),
        sent_at_seconds=sent_at,
        created_at_ms=_milliseconds(event.get("created")),
        subject=str(thing.get("id", "")) if isinstance(thing, dict) else "",
        payload=event,
    )


# --- PayPal ----------------------------------------------------------------------------------------


def _paypal(request: _Request, senders: Senders) -> Verified:
    from fourlane.webhooks import paypal

    if senders.paypal is None:
        raise Refused("not configured", "no webhook id for paypal")
    sent = paypal.read_transmission(request.headers)
    sent_at = _epoch_seconds(sent.time)
    if sent_at is None:
        raise Refused("malformed", "its transmission time is none")
    _check_age(sent_at, senders, request.now)
    senders.paypal.check(sent, request.body, now_seconds=request.now, address=request.address)
    event = _event(request.body)
    if senders.paypal.way == "lookup":
        event = senders.paypal.look_up(_text(event, "id"), sent, address=request.address)
        _check_depth(event)
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
        transmission=sent.id,
    )


# --- Supabase --------------------------------------------------------------------------------------


def _supabase(request: _Request, senders: Senders) -> Verified:
    headers, body = request.headers, request.body
    if "webhook-signature" in headers:
        return _supabase_hook(request, senders)
    if not senders.supabase_secrets:
        raise Refused("not configured", "no shared secret for supabase's database webhooks")
    given = headers.get("x-webhook-secret") or headers.get("authorization", "").removeprefix("Bearer ")
    # All are compared, so that the time taken does not tell which is close.
    secrets = [secret.encode() for secret in senders.supabase_secrets]
    if not any(hmac.compare_digest(given.encode(errors="surrogatepass"), secret) for secret in secrets):
        raise Refused("signature", "not our shared secret" if given else "there is no shared secret")
    event = _event(body)
    kind, table = _text(event, "type"), _text(event, "table")
    if kind not in _OPERATIONS:  # no trigger says so, and a handler of `table.*` would take it for a change of a row
        raise Refused("unusable", f"its type is none of {', '.join(_OPERATIONS)}")
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


def _supabase_hook(request: _Request, senders: Senders) -> Verified:
    headers = request.headers
    if not senders.supabase_hook_secrets:
        raise Refused("not configured", "no secret for supabase's auth hooks")
    webhook_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) < 12) or not webhook_id:
        raise Refused("malformed", "it has no webhook-id or webhook-timestamp")
    _check_standard_signature(headers["webhook-signature"], webhook_id, int(sent_at), request.body, senders)
    _check_age(int(sent_at), senders, request.now)
    event = _event(request.body)
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

    if len(given) > _MAX_HEADER or len(webhook_id) > _MAX_ID:
        raise Refused("signature", "it is none of supabase's")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Refused("malformed", "its body is not UTF-8") from None
    offered = [signature.encode(errors="surrogatepass") for signature in given.split() if signature.startswith("v1,")]
    for secret in senders.supabase_hook_secrets:
        try:
            webhook = standardwebhooks.Webhook(secret.removeprefix("v1,"))
        except ValueError:
            raise Refused("not configured", "a secret of supabase's auth hooks is not base64") from None
        # Its verify() asks the clock itself; its sign() takes the time, so that ours can be a test's.
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


def _milliseconds(seconds: object) -> int | None:
    return seconds * 1000 if isinstance(seconds, int) and abs(seconds) < _LAST_SECOND else None


def _event(body: bytes) -> dict[str, Any]:
    """The event of a body whose signature is valid."""
    try:
        event = msgspec.json.decode(body)  # as jobs are read: no NaN, no half of a character
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("unusable", f"no job can carry its body: {error}") from None
    if not isinstance(event, dict):
        raise Refused("unusable", "its body is no JSON object")
    _check_depth(event)
    return event


def _check_depth(event: dict[str, Any]) -> None:
    """Refuse what is nested too deep for a job, whatever is on the stack here. Raises Refused."""
    level: list[Any] = [event]
    for _ in range(_MAX_DEPTH):
        items = (item for one in level for item in (one.values() if isinstance(one, dict) else one))
        level = [item for item in items if isinstance(item, (dict, list))]
        if not level:
            return
    raise Refused("unusable", f"no job can carry its body: it is nested over {_MAX_DEPTH} deep")


def _text(event: Mapping[str, Any], key: str) -> str:
    value = event.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_ID or not value.isprintable():
        raise Refused("unusable", f"it has no {key}")
    return value


_CHECKS: Final[Mapping[str, Callable[[_Request, Senders], Verified]]] = {
    "stripe": _stripe,
    "paypal": _paypal,
    "supabase": _supabase,
}
