"""Stripe and PayPal, as far as a reconciliation reads them: lists in pages, by their rules, on this machine."""

from __future__ import annotations

import json
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import itemgetter
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["PayPal", "Reply", "Stripe"]

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and how it goes wrong.

    Parameters:
      cut: so many bytes of the body are sent, then the connection is closed.
      hang: the answer waits for this event.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    hang: threading.Event | None = None


class _Standin:
    """A server in a thread. ``faults`` are given out first, one to a request, None meaning none; then it behaves."""

    def __init__(self) -> None:
        self.faults: list[Reply | None] = []
        self.requests: list[str] = []
        self.on_request: Callable[[int], None] | None = None
        standin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                reply = standin._reply(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                if reply.hang is not None:
                    reply.hang.wait(30)
                self.send_response(reply.status)
                for name, value in ({"content-type": "application/json"} | reply.headers).items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body if reply.cut is None else reply.body[: reply.cut])
                if reply.cut is not None:
                    self.close_connection = True

            do_GET = do_POST = _serve

            def log_message(self, format: str, *args: object) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    pass  # the client went away, as some tests want

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _reply(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        self.requests.append(path)
        if self.on_request is not None:
            self.on_request(len(self.requests))
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            return fault
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        status, answer = self.answer(parts.path, query, headers)
        return Reply(status, json.dumps(answer).encode())

    def answer(self, path: str, query: dict[str, str], headers: dict[str, str]) -> tuple[int, Row]:
        raise NotImplementedError


_LISTS = ("charges", "refunds", "balance_transactions", "invoices", "invoice_payments", "subscriptions")


class Stripe(_Standin):
    """Lists of charges, refunds, balance transactions, invoices, their payments and subscriptions, the newest first.

    Each row belongs to the account that ``account`` names when it is made; "" is the key's own.
    """

    key = "sk_test_standin"

    def __init__(self) -> None:
        super().__init__()
        self.account = ""
        self.books: dict[str, dict[str, list[Row]]] = {}

    @property
    def lists(self) -> dict[str, list[Row]]:
        """Those of ``account``."""
        return self.books.setdefault(self.account, {name: [] for name in _LISTS})

    def answer(self, path: str, query: dict[str, str], headers: dict[str, str]) -> tuple[int, Row]:
        if headers.get("authorization") != f"Bearer {self.key}":
            return 401, {"error": {"type": "invalid_request_error", "message": "Invalid API Key provided"}}
        name = path.removeprefix("/v1/")
        rows = self.books.get(headers.get("stripe-account", ""), {}).get(name, [])
        if name not in _LISTS:
            return 404, {"error": {"type": "invalid_request_error", "message": "no such thing"}}
        first, end = int(query.get("created[gte]", 0)), int(query.get("created[lt]", 1 << 40))
        rows = [row for row in rows if first <= row["created"] < end]
        rows.sort(key=lambda row: (row["created"], row["id"]), reverse=True)
        ids = [row["id"] for row in rows]
        start = ids.index(query["starting_after"]) + 1 if "starting_after" in query else 0
        size = int(query.get("limit", 10))
        page = rows[start : start + size]
        return 200, {"object": "list", "data": page, "has_more": start + size < len(rows), "url": path}

    def charge(self, id: str, amount: int, at: datetime, currency: str = "usd", **more: Any) -> None:
        """A charge that succeeded, and the money that it moved."""
        row = {
            "id": id,
            "object": "charge",
            "amount": amount,
            "amount_captured": amount,
            "captured": True,
            "created": int(at.timestamp()),
            "currency": currency,
            "customer": "cus_1",
            "payment_intent": "pi_" + id.removeprefix("ch_"),
            "status": "succeeded",
        } | more
        self.lists["charges"].append(row)
        if row["status"] == "succeeded":
            self.balance(id, row["amount_captured"], at, currency, "charge")

    def refund(self, id: str, charge: str, amount: int, at: datetime, currency: str = "usd", **more: Any) -> None:
        """A refund, and the money that it moved."""
        self.lists["refunds"].append(
            {
                "id": id,
                "object": "refund",
                "amount": amount,
                "charge": charge,
                "created": int(at.timestamp()),
                "currency": currency,
                "payment_intent": "pi_" + charge.removeprefix("ch_"),
                "status": "succeeded",
            }
            | more
        )
        self.balance(id, -amount, at, currency, "refund")

    def balance(self, source: str, amount: int, at: datetime, currency: str, type: str, **more: Any) -> None:
        """A balance transaction alone."""
        self.lists["balance_transactions"].append(
            {
                "id": f"txn_{source}",
                "object": "balance_transaction",
                "amount": amount,
                "created": int(at.timestamp()),
                "currency": currency,
                "source": source,
                "type": type,
            }
            | more
        )

    def invoice(self, id: str, amount: int, at: datetime, status: str = "paid", **more: Any) -> None:
        """An invoice."""
        self.lists["invoices"].append(
            {
                "id": id,
                "object": "invoice",
                "amount_due": amount,
                "amount_paid": amount if status == "paid" else 0,
                "created": int(at.timestamp()),
                "currency": "usd",
                "customer": "cus_1",
                "number": id.upper(),
                "status": status,
                "status_transitions": {"paid_at": int(at.timestamp()) if status == "paid" else None},
            }
            | more
        )

    def paid(self, invoice: str, id: str, intent: str, amount: int, at: datetime) -> None:
        """A payment of an invoice, whole or in part."""
        of = next(row for row in self.lists["invoices"] if row["id"] == invoice)
        row = {
            "id": id,
            "object": "invoice_payment",
            "amount_paid": amount,
            "created": int(at.timestamp()),
            "currency": of["currency"],
            "payment": {"type": "payment_intent", "payment_intent": intent},
            "status": "paid",
            "status_transitions": {"paid_at": int(at.timestamp())},
        }
        payments = of.setdefault("payments", {"object": "list", "data": []})
        payments["data"].append(row)
        self.lists["invoice_payments"].append(row | {"invoice": of})

    def subscription(self, id: str, amount: int, at: datetime, status: str = "active", **more: Any) -> None:
        """A subscription with one price."""
        price = {"id": "price_1", "object": "price", "currency": "usd", "unit_amount": amount}
        self.lists["subscriptions"].append(
            {
                "id": id,
                "object": "subscription",
                "created": int(at.timestamp()),
                "currency": "usd",
                "customer": "cus_1",
                "items": {"object": "list", "data": [{"id": "si_1", "price": price, "quantity": 1}]},
                "status": status,
            }
            | more
        )


class PayPal(_Standin):
    """Its transaction search: windows of at most 31 days and ``most`` rows, pages by number."""

    most = 10_000

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[datetime, Row]] = []
        """By time."""

    def answer(self, path: str, query: dict[str, str], headers: dict[str, str]) -> tuple[int, Row]:
        if path == "/v1/oauth2/token":
            if headers.get("authorization") != "Basic aWQ6c2VjcmV0":  # id:secret
                return 401, {"error": "invalid_client"}
            return 200, {"access_token": "T", "expires_in": 32_400}
        if headers.get("authorization") != "Bearer T":
            return 401, {"name": "AUTHENTICATION_FAILURE"}
        start, end = (datetime.fromisoformat(query[name]) for name in ("start_date", "end_date"))
        if (end - start).days > 31 or (end - start).days < 0:
            return 400, {"name": "INVALID_REQUEST", "message": "the range is over 31 days"}
        first = bisect_left(self.rows, start, key=itemgetter(0))
        last = bisect_right(self.rows, end, key=itemgetter(0))
        if last - first > self.most:
            return 400, {"name": "RESULTSET_TOO_LARGE", "message": "Result set size is greater than the maximum limit"}
        size, number = int(query["page_size"]), int(query["page"])
        page = self.rows[first:last][(number - 1) * size : number * size]
        return 200, {
            "transaction_details": [{"transaction_info": row} for _, row in page],
            "page": number,
            "total_items": last - first,
            "total_pages": max(1, -(-(last - first) // size)),
        }

    def transaction(
        self, id: str, value: str, at: datetime, currency: str = "USD", code: str = "T0006", **more: Any
    ) -> None:
        """A transaction; a payment unless the code says otherwise."""
        row = {
            "transaction_id": id,
            "transaction_event_code": code,
            "transaction_initiation_date": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+0000"),
            "transaction_amount": {"currency_code": currency, "value": value},
            "transaction_status": "S",
        } | more
        insort(self.rows, (at, row), key=itemgetter(0))
