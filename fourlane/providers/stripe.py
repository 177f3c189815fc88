"""Stripe's books, by its SDK."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import stripe

from fourlane import money
from fourlane.providers.payments import Entry, Page, Period, ProviderError, asked_again
from fourlane.providers.retry_after import retry_after_ms

__all__ = ["StripeBooks"]

_PAGE: Final = 100  # Stripe's most


class StripeBooks:
    """Charges, refunds, balance transactions, invoices and subscriptions of one account.

    Parameters:
      api_key: a restricted key that may read these is enough.
      base_url: of a stand-in, in tests.
      timeout_seconds: for one call.
    """

    provider: Final = "stripe"
    parts: Final = ("charge", "refund", "balance", "invoice", "subscription")

    def __init__(self, api_key: str, *, base_url: str | None = None, timeout_seconds: float = 30.0) -> None:
        self._http = stripe.HTTPXClient(timeout=timeout_seconds, allow_sync_methods=True)
        self._client = stripe.StripeClient(
            api_key,
            http_client=self._http,
            max_network_retries=0,  # asked_again does it, in the platform's measure
            base_addresses={"api": base_url} if base_url else {},
        )

    def close(self) -> None:
        self._http.close()  # type: ignore[no-untyped-call]

    def page(self, part: str, period: Period, cursor: dict[str, Any] | None) -> Page:
        """The newest first, as Stripe lists them. Raises ProviderError."""
        params: dict[str, Any] = {"limit": _PAGE}
        if part == "subscription":
            # Old ones live on: all that began before the end.
            params |= {"status": "all", "created": {"lt": _seconds(period.end)}}
        else:
            params["created"] = {"gte": _seconds(period.start), "lt": _seconds(period.end)}
        if cursor is not None:
            params["starting_after"] = cursor["after"]
        found = asked_again(lambda: self._list(part, params))
        rows, more = found.get("data"), found.get("has_more")
        if not isinstance(rows, list) or (more and not rows):
            raise ProviderError(f"stripe: a page of {part}s without a list of them", passing=False)
        try:
            entries = [entry for row in rows if (entry := _READ[part](row)) is not None]
            following = {"after": rows[-1]["id"]} if more else None
        except (KeyError, TypeError, AttributeError) as error:
            raise ProviderError(f"stripe: a {part} that cannot be read: {error!r}", passing=False) from error
        return Page(entries, following)

    def _list(self, part: str, params: dict[str, Any]) -> dict[str, Any]:
        api = self._client.v1
        service: Any = {
            "charge": api.charges,
            "refund": api.refunds,
            "balance": api.balance_transactions,
            "invoice": api.invoices,
            "subscription": api.subscriptions,
        }[part]
        try:
            found: dict[str, Any] = service.list(params=params).to_dict()
        except stripe.StripeError as error:
            raise _error(error) from error
        return found


def _error(error: stripe.StripeError) -> ProviderError:
    status = error.http_status
    if isinstance(error, stripe.APIConnectionError):
        return ProviderError(f"stripe: no answer: {_first_line(error)}", passing=True)
    if isinstance(error, stripe.AuthenticationError):
        return ProviderError("stripe: the key is refused; set STRIPE_SECRET_KEY to one that is valid", passing=False)
    if isinstance(error, stripe.PermissionError):
        return ProviderError(f"stripe: the key may not read this: {_first_line(error)}", passing=False)
    after_ms = retry_after_ms(error.headers or {})
    # A 200 that is not JSON is an answer cut short.
    passing = status is None or status in (200, 409, 429) or status >= 500
    return ProviderError(
        f"stripe: HTTP {status}: {_first_line(error)}",
        passing=passing,
        limited=status == 429,
        after_seconds=None if after_ms is None else after_ms / 1000,
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


# --- Rows to entries -------------------------------------------------------------------------------

_Row = Mapping[str, Any]


def _charge(row: _Row) -> Entry:
    captured = row.get("captured", True)
    status = row["status"] if captured else "pending"
    amount = row.get("amount_captured", row["amount"]) if captured and status == "succeeded" else row["amount"]
    return Entry(
        object="charge",
        ref=row["id"],
        alias=_id(row.get("payment_intent")),
        group=_id(row.get("invoice")) or _id(row.get("payment_intent")),
        **_amount(amount, row["currency"]),
        status=status,
        expected=status == "succeeded",
        at=_moment(row["created"]),
        details={"customer": _id(row.get("customer"))},
    )


def _refund(row: _Row) -> Entry:
    status = _REFUND_STATUS.get(row["status"]) or str(row["status"])
    return Entry(
        object="refund",
        ref=row["id"],
        parent=tuple(ref for ref in (_id(row.get("charge")), _id(row.get("payment_intent"))) if ref),
        **_amount(row["amount"], row["currency"]),
        status=status,
        expected=status == "succeeded",
        at=_moment(row["created"]),
    )


_REFUND_STATUS: Final = {"requires_action": "pending", "canceled": "failed"}
_MOVES: Final = {
    "charge": "charge",
    "payment": "charge",
    "refund": "refund",
    "payment_refund": "refund",
    "adjustment": "adjustment",
}


def _balance(row: _Row) -> Entry | None:
    moved, source = _MOVES.get(row["type"]), _id(row.get("source"))
    if moved is None or not source:
        return None  # payouts, fees, transfers: not in our books
    return Entry(
        object="balance",
        ref=source,
        **_amount(row["amount"], row["currency"]),
        status="succeeded",
        at=_moment(row["created"]),
        details={"balance_transaction": row["id"], "type": row["type"], "moved": moved},
    )


def _invoice(row: _Row) -> Entry:
    due = _amount(row["amount_due"], row["currency"])
    return Entry(
        object="invoice",
        ref=row["id"],
        **due,
        status=row["status"],
        expected=row["status"] != "draft",
        at=_moment(row["created"]),
        details={
            "amount_paid_minor": _amount(row["amount_paid"], row["currency"])["amount_minor"],
            "customer": _id(row.get("customer")),
            "number": row.get("number"),
            "paid_at": (row.get("status_transitions") or {}).get("paid_at"),
        },
    )


def _subscription(row: _Row) -> Entry:
    items = (row.get("items") or {}).get("data") or []
    amounts = [(_price(item).get("unit_amount"), item.get("quantity", 1)) for item in items]
    # A metered price has no amount of its own.
    total = None if any(amount is None for amount, _ in amounts) else sum(a * n for a, n in amounts)
    currency = row.get("currency") or (_price(items[0]).get("currency", "") if items else "")
    return Entry(
        object="subscription",
        ref=row["id"],
        **_amount(total, currency),
        status=row["status"],
        expected=row["status"] not in ("incomplete", "incomplete_expired", "canceled"),
        at=_moment(row["created"]),
        details={"customer": _id(row.get("customer"))},
    )


def _price(item: _Row) -> _Row:
    return item.get("price") or {"unit_amount": (item.get("plan") or {}).get("amount"), **(item.get("plan") or {})}


def _amount(amount: int | None, currency: str) -> dict[str, Any]:
    """An amount that cannot be said is None, and leads to a finding: one odd currency must not end a run."""
    try:
        minor = None if amount is None else abs(money.from_stripe(amount, currency))
    except ValueError:
        minor = None
    return {"amount_minor": minor, "currency": currency.upper()}


def _id(value: Any) -> str:
    """An id, of a field that may hold the object itself."""
    return value["id"] if isinstance(value, Mapping) else (value or "")


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


_READ: Final[Mapping[str, Callable[[_Row], Entry | None]]] = {
    "charge": _charge,
    "refund": _refund,
    "balance": _balance,
    "invoice": _invoice,
    "subscription": _subscription,
}
