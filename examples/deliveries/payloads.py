"""Webhook payloads of the kinds that Stripe, PayPal and Supabase send; the same seed, the same payloads."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

__all__ = ["Event", "events"]

_Json = dict[str, Any]
_EPOCH = datetime(2026, 1, 18, 9, 0, tzinfo=UTC)  # a fixed day: a clock would make each run another one


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a sender.

    Parameters:
      source: ``stripe``, ``paypal`` or ``supabase``.
      type: the sender's name for it, e.g. ``invoice.paid``.
      id: different for every event of a run; fit for a ``webhook-id``.
      payload: the JSON that the sender posts.
    """

    source: str
    type: str
    id: str
    payload: _Json


def events(seed: int, count: int | None = None) -> Iterator[Event]:
    """Make events of mixed kinds, a few seconds apart; endless without a count."""
    return islice(_endless(random.Random(seed)), count)


def _endless(rng: random.Random) -> Iterator[Event]:
    moment = _EPOCH
    while True:
        moment += timedelta(milliseconds=rng.randint(50, 5_000))
        yield rng.choice(_MAKERS)(rng, moment)


# --- Stripe ----------------------------------------------------------------------------------------


def _stripe(rng: random.Random, moment: datetime, kind: str, thing: _Json, before: _Json | None) -> Event:
    data: _Json = {"object": thing}
    if before is not None:
        data["previous_attributes"] = before
    event_id = "evt_" + _token(rng, 24)
    payload = {
        "id": event_id,
        "object": "event",
        "api_version": "2025-09-30.clover",
        "created": int(moment.timestamp()),
        "data": data,
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": "req_" + _token(rng, 14), "idempotency_key": _uuid(rng)},
        "type": kind,
    }
    return Event("stripe", kind, event_id, payload)


def _invoice_paid(rng: random.Random, moment: datetime) -> Event:
    amount = rng.choice([1900, 4900, 9900, 29900])
    created = int(moment.timestamp())
    invoice = {
        "id": "in_" + _token(rng, 24),
        "object": "invoice",
        "amount_due": amount,
        "amount_paid": amount,
        "amount_remaining": 0,
        "billing_reason": rng.choice(["subscription_create", "subscription_cycle"]),
        "collection_method": "charge_automatically",
        "currency": "usd",
        "customer": "cus_" + _token(rng, 14),
        "customer_email": _email(rng),
        "lines": {
            "object": "list",
            "data": [
                {
                    "id": "il_" + _token(rng, 24),
                    "object": "line_item",
                    "amount": amount,
                    "currency": "usd",
                    "description": f"1 × {rng.choice(_PLANS)} (monthly)",
                    "period": {"start": created, "end": created + 30 * 86_400},
                    "quantity": 1,
                }
            ],
            "has_more": False,
        },
        "number": f"{_token(rng, 8).upper()}-{rng.randint(1, 40):04d}",
        "paid": True,
        "status": "paid",
        "subtotal": amount,
        "total": amount,
    }
    return _stripe(rng, moment, "invoice.paid", invoice, None)


def _charge_refunded(rng: random.Random, moment: datetime) -> Event:
    amount = rng.randint(500, 30_000)
    refunded = rng.choice([amount, amount // 2])
    charge = {
        "id": "ch_" + _token(rng, 24),
        "object": "charge",
        "amount": amount,
        "amount_captured": amount,
        "amount_refunded": refunded,
        "currency": "usd",
        "customer": "cus_" + _token(rng, 14),
        "paid": True,
        "payment_intent": "pi_" + _token(rng, 24),
        "payment_method_details": {
            "type": "card",
            "card": {"brand": rng.choice(["visa", "mastercard"]), "last4": f"{rng.randint(0, 9999):04d}"},
        },
        "refunded": refunded == amount,
        "status": "succeeded",
    }
    return _stripe(rng, moment, "charge.refunded", charge, {"amount_refunded": 0, "refunded": False})


def _subscription_updated(rng: random.Random, moment: datetime) -> Event:
    created = int(moment.timestamp())
    before, after = rng.sample(_PLANS, 2)
    subscription = {
        "id": "sub_" + _token(rng, 24),
        "object": "subscription",
        "cancel_at_period_end": False,
        "currency": "usd",
        "customer": "cus_" + _token(rng, 14),
        "items": {
            "object": "list",
            "data": [
                {
                    "id": "si_" + _token(rng, 14),
                    "object": "subscription_item",
                    "current_period_start": created,
                    "current_period_end": created + 30 * 86_400,
                    "price": {"id": "price_" + _token(rng, 24), "nickname": after, "object": "price"},
                    "quantity": 1,
                }
            ],
        },
        "status": rng.choice(["active", "active", "past_due"]),
    }
    return _stripe(
        rng,
        moment,
        "customer.subscription.updated",
        subscription,
        {"items": {"data": [{"price": {"nickname": before}}]}},
    )


# --- PayPal ----------------------------------------------------------------------------------------


def _paypal(
    rng: random.Random, moment: datetime, kind: str, resource_type: str, summary: str, resource: _Json
) -> Event:
    event_id = f"WH-{_code(rng, 17)}-{_code(rng, 17)}"
    link = f"https://api.paypal.com/v1/notifications/webhooks-events/{event_id}"
    payload = {
        "id": event_id,
        "event_version": "1.0",
        "create_time": _iso(moment),
        "resource_type": resource_type,
        "resource_version": "2.0",
        "event_type": kind,
        "summary": summary,
        "resource": resource,
        "links": [
            {"href": link, "rel": "self", "method": "GET"},
            {"href": f"{link}/resend", "rel": "resend", "method": "POST"},
        ],
    }
    return Event("paypal", kind, event_id, payload)


def _capture_completed(rng: random.Random, moment: datetime) -> Event:
    cents = rng.randint(500, 30_000)
    fee = 49 + cents * 349 // 10_000
    capture = {
        "id": _code(rng, 17),
        "amount": _money(cents),
        "create_time": _iso(moment - timedelta(seconds=2)),
        "custom_id": _uuid(rng),
        "final_capture": True,
        "seller_protection": {"status": "ELIGIBLE"},
        "seller_receivable_breakdown": {
            "gross_amount": _money(cents),
            "paypal_fee": _money(fee),
            "net_amount": _money(cents - fee),
        },
        "status": "COMPLETED",
        "update_time": _iso(moment),
    }
    summary = f"Payment completed for $ {cents / 100:.2f} USD"
    return _paypal(rng, moment, "PAYMENT.CAPTURE.COMPLETED", "capture", summary, capture)


def _capture_refunded(rng: random.Random, moment: datetime) -> Event:
    cents = rng.randint(500, 30_000)
    refund = {
        "id": _code(rng, 17),
        "amount": _money(cents),
        "create_time": _iso(moment),
        "note_to_payer": "Credits were not used",
        "status": "COMPLETED",
    }
    summary = f"A $ {cents / 100:.2f} USD capture payment was refunded"
    return _paypal(rng, moment, "PAYMENT.CAPTURE.REFUNDED", "refund", summary, refund)


def _subscription_cancelled(rng: random.Random, moment: datetime) -> Event:
    subscription = {
        "id": f"I-{_code(rng, 12)}",
        "plan_id": f"P-{_code(rng, 24)}",
        "start_time": _iso(moment - timedelta(days=rng.randint(1, 700))),
        "status": "CANCELLED",
        "status_update_time": _iso(moment),
        "subscriber": {"email_address": _email(rng), "payer_id": _code(rng, 13)},
    }
    return _paypal(
        rng,
        moment,
        "BILLING.SUBSCRIPTION.CANCELLED",
        "subscription",
        "Subscription cancelled",
        subscription,
    )


# --- Supabase --------------------------------------------------------------------------------------


def _supabase(kind: str, table: str, record: _Json, old_record: _Json | None) -> Event:
    # Database webhooks carry no id of their own; row and verb name the event.
    event_id = f"{kind.lower()}_{table}_{record['id']}"
    payload = {
        "type": kind,
        "table": table,
        "schema": "public",
        "record": record,
        "old_record": old_record,
    }
    return Event("supabase", kind, event_id, payload)


def _credits_spent(rng: random.Random, moment: datetime) -> Event:
    amount = -rng.randint(1, 40)
    record = {
        "id": _uuid(rng),
        "organization_id": _uuid(rng),
        "amount": amount,
        "balance_after": rng.randint(0, 5_000),
        "reason": rng.choice(["generate", "analyze", "translate", "summarize"]),
        "created_at": moment.isoformat(),
    }
    return _supabase("INSERT", "credit_transactions", record, None)


def _organization_renamed(rng: random.Random, moment: datetime) -> Event:
    old = {
        "id": _uuid(rng),
        "name": f"{rng.choice(_NAMES).title()} Studio",
        "plan": rng.choice(_PLANS),
        "updated_at": (moment - timedelta(days=rng.randint(1, 90))).isoformat(),
    }
    # Not only ASCII: signatures are made over bytes.
    record = old | {"name": f"Café {rng.choice(_NAMES).title()} 🎬", "updated_at": moment.isoformat()}
    return _supabase("UPDATE", "organizations", record, old)


# --- Parts -----------------------------------------------------------------------------------------

_PLANS = ["Starter", "Pro", "Team", "Enterprise"]
_NAMES = ["ada", "barbara", "edsger", "grace", "ken", "linus", "margaret", "radia"]

_MAKERS: tuple[Callable[[random.Random, datetime], Event], ...] = (
    _invoice_paid,
    _charge_refunded,
    _subscription_updated,
    _capture_completed,
    _capture_refunded,
    _subscription_cancelled,
    _credits_spent,
    _organization_renamed,
)


def _token(rng: random.Random, length: int) -> str:
    return "".join(rng.choices(string.ascii_letters + string.digits, k=length))


def _code(rng: random.Random, length: int) -> str:
    return "".join(rng.choices(string.ascii_uppercase + string.digits, k=length))


def _uuid(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], "4" + digits[13:16], "a" + digits[17:20], digits[20:]))


def _email(rng: random.Random) -> str:
    return f"{rng.choice(_NAMES)}.{rng.randint(1, 999)}@example.com"


def _money(cents: int) -> _Json:
    return {"currency_code": "USD", "value": f"{cents / 100:.2f}"}


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
