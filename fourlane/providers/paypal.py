"""PayPal over HTTP: its transaction search as books, and the question whether a webhook is its own."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from fourlane import money
from fourlane.providers import http
from fourlane.providers.payments import Entry, Page, Period, ProviderError, asked_again
from fourlane.providers.retry_after import retry_after_ms

__all__ = ["LIVE_URL", "SANDBOX_URL", "PayPalApi", "PayPalBooks"]

LIVE_URL: Final = "https://api-m.paypal.com"
SANDBOX_URL: Final = "https://api-m.sandbox.paypal.com"
_MOST_BYTES: Final = 16_000_000
_PAGE: Final = 500  # PayPal's most
_WINDOW: Final = timedelta(days=31)  # PayPal's most
_MOST_ROWS: Final = 10_000  # of one window, whatever its pages
_SMALLEST: Final = timedelta(seconds=2)


class PayPalApi:
    """Calls with an access token, which is fetched anew shortly before it ends.

    Parameters:
      base_url: `LIVE_URL`, `SANDBOX_URL`, or a stand-in's.
      timeout_seconds: for one call.
      allow_private: whether it may be on a private network; for tests.
    """

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        *,
        base_url: str = LIVE_URL,
        timeout_seconds: float = 30.0,
        allow_private: bool = False,
    ) -> None:
        self._login = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        self._base_url = base_url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._allow_private = allow_private
        self._token, self._token_until = "", 0.0
        self._lock = threading.Lock()

    def get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        """GET a JSON object. Raises ProviderError."""
        url = f"{self._base_url}{path}?{urlencode(query)}"
        return asked_again(
            lambda: self._answer(lambda headers: self._get(url, headers), {"authorization": f"Bearer {self._access()}"})
        )

    def verify_webhook(self, transmission: Mapping[str, str], raw_body: bytes) -> bool:
        """Ask whether a webhook is PayPal's own. Raises ProviderError."""
        # The event goes in as the bytes that came: PayPal signs them, not what they mean.
        head = json.dumps(dict(transmission)).encode()
        body = head[:-1] + b', "webhook_event": ' + raw_body + b"}"
        answer = asked_again(
            lambda: self._answer(
                lambda headers: self._post("/v1/notifications/verify-webhook-signature", body, headers),
                {"authorization": f"Bearer {self._access()}", "content-type": "application/json"},
            )
        )
        return answer.get("verification_status") == "SUCCESS"

    def _access(self) -> str:
        with self._lock:
            if time.monotonic() >= self._token_until:
                answer = self._answer(
                    lambda headers: self._post("/v1/oauth2/token", b"grant_type=client_credentials", headers),
                    {
                        "authorization": f"Basic {self._login}",
                        "content-type": "application/x-www-form-urlencoded",
                    },
                )
                token, seconds = answer.get("access_token"), answer.get("expires_in", 0)
                if not isinstance(token, str) or not isinstance(seconds, int):
                    raise ProviderError("paypal: no access token in the answer", passing=False)
                self._token, self._token_until = token, time.monotonic() + max(0, seconds - 60)
            return self._token

    def _get(self, url: str, headers: Mapping[str, str]) -> http.Response:
        return http.get(
            url,
            headers=headers,
            timeout_seconds=self._timeout_seconds,
            allow_private=self._allow_private,
            keep_body_bytes=_MOST_BYTES,
        )

    def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> http.Response:
        return http.post(
            self._base_url + path,
            body=body,
            headers=headers,
            timeout_seconds=self._timeout_seconds,
            allow_private=self._allow_private,
            max_redirects=0,
            keep_body_bytes=_MOST_BYTES,
        )

    def _answer(self, call: Any, headers: dict[str, str]) -> dict[str, Any]:
        try:
            response: http.Response = call({"accept": "application/json"} | headers)
        except http.TargetRefused as error:
            raise ProviderError(f"paypal: {error}", passing=False) from error
        except http.TransportError as error:
            raise ProviderError(f"paypal: no answer: {error}", passing=True) from error
        if response.status == 401:
            self._token_until = 0.0  # it may have been revoked; the next call asks for another
            if headers["authorization"].startswith("Basic "):
                raise ProviderError(
                    "paypal: the client id or its secret is refused; check PAYPAL_CLIENT_ID, PAYPAL_CLIENT_SECRET",
                    passing=False,
                )
        if response.status != 200:
            after_ms = retry_after_ms(response.headers)
            text = " ".join(response.body[:300].decode(errors="replace").split())
            raise ProviderError(
                f"paypal: HTTP {response.status}: {text}",
                passing=response.status in (401, 408, 429) or response.status >= 500,
                limited=response.status == 429,
                after_seconds=None if after_ms is None else after_ms / 1000,
            )
        try:
            answer = json.loads(response.body)
        except ValueError as error:
            raise ProviderError(f"paypal: an answer that is not JSON: {error}", passing=True) from error
        if not isinstance(answer, dict):
            raise ProviderError("paypal: an answer that is no JSON object", passing=False)
        return answer


class PayPalBooks:
    """Payments, refunds and chargebacks of one account, in windows of 31 days and pages of 500.

    A window of over 10,000 transactions is refused by PayPal, whatever its pages; it is halved then.
    """

    provider: Final = "paypal"
    parts: Final = ("transaction",)

    def __init__(self, api: PayPalApi) -> None:
        self._api = api

    def close(self) -> None:
        pass  # its connections are in the process's pool (http/idle.py)

    def page(self, part: str, period: Period, cursor: dict[str, Any] | None) -> Page:
        """Raises ProviderError."""
        start, end, number = period.start, min(period.start + _WINDOW, period.end), 1
        if cursor is not None:
            start, end = datetime.fromisoformat(cursor["start"]), datetime.fromisoformat(cursor["end"])
            number = cursor["page"]
        while (answer := self._search(start, end, number)) is None:
            if end - start < _SMALLEST:
                raise ProviderError(f"paypal: over {_MOST_ROWS:,} transactions in the second {start}", passing=False)
            end = start + timedelta(seconds=int((end - start).total_seconds()) // 2)
        try:
            rows = [row["transaction_info"] for row in answer.get("transaction_details") or []]
            # A window's end belongs to the next window too: PayPal's includes it.
            entries = [entry for row in rows if (entry := _read(row)) is not None and start <= entry.at < end]
            pages = int(answer.get("total_pages") or 1)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProviderError(f"paypal: a transaction that cannot be read: {error!r}", passing=False) from error
        if number < pages:
            return Page(entries, {"start": start.isoformat(), "end": end.isoformat(), "page": number + 1})
        if end < period.end:
            following = min(end + _WINDOW, period.end)
            return Page(entries, {"start": end.isoformat(), "end": following.isoformat(), "page": 1})
        return Page(entries, None)

    def _search(self, start: datetime, end: datetime, page: int) -> dict[str, Any] | None:
        """One page; None when the window holds too much."""
        query = {
            "start_date": _utc(start),
            "end_date": _utc(end),
            "fields": "transaction_info",
            "balance_affecting_records_only": "Y",  # an id may come twice otherwise
            "page_size": str(_PAGE),
            "page": str(page),
        }
        try:
            answer = self._api.get("/v1/reporting/transactions", query)
        except ProviderError as error:
            if "RESULTSET_TOO_LARGE" in str(error):
                return None
            raise
        return None if int(answer.get("total_items") or 0) > _MOST_ROWS else answer


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_STATUS: Final = {"S": "succeeded", "P": "pending", "D": "failed", "V": "succeeded", "F": "succeeded"}
# The refund of a payment that is V or F is a transaction of its own.


def _read(row: Mapping[str, Any]) -> Entry | None:
    code = row["transaction_event_code"]
    kind = _kind(code)
    if kind is None:
        return None
    currency = row["transaction_amount"]["currency_code"]
    try:
        minor = abs(money.parse(row["transaction_amount"]["value"], currency))
    except ValueError:
        minor = None
    status = _STATUS.get(row.get("transaction_status", ""), "pending")
    reference = row.get("paypal_reference_id", "")
    return Entry(
        object=kind,
        ref=row["transaction_id"],
        parent=(reference,) if kind != "charge" and row.get("paypal_reference_id_type") == "TXN" else (),
        group=row.get("invoice_id", "") if kind == "charge" else "",
        amount_minor=minor,
        currency=currency.upper(),
        status=status,
        expected=status == "succeeded",
        at=datetime.fromisoformat(row["transaction_initiation_date"]),
        details={"event_code": code},
    )


def _kind(code: str) -> str | None:
    if code.startswith("T00"):
        return "charge"
    if code in ("T1106", "T1107"):  # reversal, refund
        return "refund"
    if code.startswith("T12"):  # chargebacks and their like
        return "adjustment"
    return None  # transfers to a bank, conversions, fees, holds: not in our books
