"""Stripe's books, by its SDK."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import stripe

from fourlane import money
from fourlane.providers.payments import Entry, Page, Paid, Period, ProviderError, asked_again
from fourlane.providers.retry_after import retry_after_ms

__all__ = ["OWN", "StripeBooks"]

OWN: Final = "own"
_PAGE: Final = 100  # Stripe's most
_ASKED: Final[Mapping[str, dict[str, Any]]] = {
    "subscription": {"status": "all"},
    "invoice_payment": {"status": "paid", "expand": ["data.invoice.payments"]},
}
_Row = Mapping[str, Any]


class StripeBooks:
    """Charges, refunds, balance transactions, invoices, what was paid of them, and subscriptions of some accounts.

    A part is one of these, of an account that is not the key's own: ``acct_1/charge``.

    Parameters:
      api_key: a restricted key that may read these is enough.
      accounts: connected accounts by their ids; `OWN` is that of the key.
      order_key: the field of a charge's metadata that says what it paid for.
      base_url: of a stand-in, in tests.
      timeout_seconds: for one call.
    """

    provider: Final = "stripe"

    def __init__(
        self,
        api_key: str,
        *,
        accounts: Sequence[str] = (OWN,),
        order_key: str = "",
        base_url: str | None = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        self.parts = tuple(kind if account == OWN else f"{account}/{kind}" for account in accounts for kind in _READ)
        self._order_key = order_key
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
        account, _, kind = part.rpartition("/")
        params: dict[str, Any] = {"limit": _PAGE} | _ASKED.get(kind, {})
        # Old subscriptions live on: all that began before the end.
        first = {} if kind == "subscription" else {"gte": _seconds(period.start)}
        params["created"] = first | {"lt": _seconds(period.end)}
        if cursor is not None:
            params["starting_after"] = cursor["after"]
        found = asked_again(lambda: self._list(kind, params, account))
        rows, more = found.get("data"), found.get("has_more")
        if not isinstance(rows, list) or (more and not rows):
            raise ProviderError(f"stripe: a page of {part}s without a list of them", passing=False)
        try:
            entries = [self._of(account, entry, row) for row in rows if (entry := _READ[kind](row)) is not None]
            following = {"after": rows[-1]["id"]} if more else None
        except (KeyError, TypeError, AttributeError) as error:
            raise ProviderError(f"stripe: a {part} that cannot be read: {error!r}", passing=False) from error
        return Page(entries, following)

    def _of(self, account: str, entry: Entry, row: _Row) -> Entry:
        """With what the settings say of it."""
        if account:
            entry = replace(entry, details=dict(entry.details) | {"account": account})
        order = (row.get("metadata") or {}).get(self._order_key) if entry.object == "charge" else None
        return replace(entry, group=f"{account}/{self._order_key}={order}") if order else entry

    def _list(self, kind: str, params: dict[str, Any], account: str) -> dict[str, Any]:
        api = self._client.v1
        service: Any = {
            "charge": api.charges,
            "refund": api.refunds,
            "balance": api.balance_transactions,
            "invoice": api.invoices,
            "invoice_payment": api.invoice_payments,
            "subscription": api.subscriptions,
        }[kind]
        options = {"stripe_account": account} if account else {}
        try:
            found: dict[str, Any] = service.list(params=params, options=options).to_dict()
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


def _charge(row: _Row) -> Entry:
    captured = row.get("captured", True)
    status = row["status"] if captured else "pending"
    amount = row.get("amount_captured", row["amount"]) if captured and status == "succeeded" else row["amount"]
    return Entry(
        object="charge",
        ref=row["id"],
        alias=_id(row.get("payment_intent")),
        group=_id(row.get("payment_intent")),
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
    if moved == "adjustment" and row["amount"] > 0 and source.startswith(_DISPUTES):
        moved = "reversal"
    return Entry(
        object="balance",
        # A dispute that was won moves money twice: the second time under an id of its own.
        ref=row["id"] if moved == "reversal" else source,
        alias=source if moved == "reversal" else "",
        **_amount(row["amount"], row["currency"]),
        status="succeeded",
        at=_moment(row["created"]),
        details={"balance_transaction": row["id"], "type": row["type"], "moved": moved, "source": source},
    )


_DISPUTES: Final = ("dp_", "du_")


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


def _invoice_payment(row: _Row) -> Entry | None:
    """With the other payments of its invoice, which may be older than the period."""
    invoice = row.get("invoice")
    if not isinstance(invoice, Mapping):
        return None  # it was deleted
    currency = invoice["currency"]
    return Entry(
        object="invoice_payment",
        ref=row["id"],
        alias=_paid_by(row),
        group=invoice["id"],
        **_amount(row.get("amount_paid"), currency),
        status="succeeded",
        at=_moment(row["created"]),
        details={
            "due_minor": _amount(invoice["amount_due"], currency)["amount_minor"],
            "payments": [paid for other in _payments(invoice) if (paid := _paid(other, currency)) is not None],
        },
    )


def _payments(invoice: _Row) -> list[_Row]:
    found: list[_Row] = (invoice.get("payments") or {}).get("data") or []
    return found


def _paid(row: _Row, currency: str) -> Paid | None:
    at = (row.get("status_transitions") or {}).get("paid_at")
    minor = _amount(row.get("amount_paid"), currency)["amount_minor"]
    if row.get("status") != "paid" or not at or minor is None:
        return None
    return Paid(ref=_paid_by(row) or row["id"], amount_minor=minor, at=at)


def _paid_by(row: _Row) -> str:
    payment = row.get("payment") or {}
    return _id(payment.get("payment_intent")) or _id(payment.get("charge"))


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
        details={"customer": _id(row.get("customer")), "canceled_at": row.get("canceled_at") or row.get("ended_at")},
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
    "invoice_payment": _invoice_payment,
    "subscription": _subscription,
}
