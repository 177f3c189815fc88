"""A request becomes a job: the gates in their order, the answer for each, and what is told of a refusal.

1. How often its sender comes (``rate.py``).
2. Its sender's address, where a list is given.
3. Its size, before anything is computed over it.
4. Signature and age (``verify.py``).
5. Its id, remembered in the script that accepts the job: the same event again is answered "yes" and does nothing.

An answer other than 2xx makes the provider send again later. So a refusal is final for us and not for them, and what
is our own trouble (Redis away, PayPal's certificate not to be had) is 503: nothing is lost.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from fourlane.errors import EncryptionError, FourlaneError, JobTooLarge, RedisUnavailable
from fourlane.queues import carry
from fourlane.webhooks.handlers import Event, enqueue_once, handle, handlers_of
from fourlane.webhooks.rate import Rates
from fourlane.webhooks.verify import PROVIDERS, Refused, Senders, Unverifiable, Verified, verify

__all__ = ["MAX_BYTES", "PER_MINUTE", "Answer", "Receiver", "Refusal"]

_log = logging.getLogger("fourlane.webhooks")

MAX_BYTES: Final = 524_288
PER_MINUTE: Final = 3_000
_REPORTS_A_MINUTE: Final = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer: an HTTP status, JSON, and headers of this answer."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was not taken, for the record of security events.

    Parameters:
      reason: ``rate``, ``signature``, ``age``, ``address``, ``size``, ``malformed``, ``not configured`` or ``unknown
        provider``.
      unreported: refusals since the last report that had none, as there were too many in a minute.
    """

    provider: str
    reason: str
    detail: str
    address: str
    unreported: int


class Receiver:
    """Takes webhooks.

    Parameters:
      senders: what the providers sign with.
      allow: for a provider, the networks that it may call from; a provider that is not named may call from anywhere.
      report: told of each refusal, at most 60 times a minute: a flood of forgeries must not become one of rows.
      max_bytes: the largest body.
      per_minute: how many requests a sender may make in a minute, to each provider's address; 0: no bound.
      clock: Unix time.
    """

    def __init__(
        self,
        senders: Senders,
        *,
        allow: Mapping[str, Sequence[str]] | None = None,
        report: Callable[[Refusal], None] | None = None,
        max_bytes: int = MAX_BYTES,
        per_minute: int = PER_MINUTE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._senders = senders
        self._allow = {
            provider: [ipaddress.ip_network(network) for network in networks]
            for provider, networks in (allow or {}).items()
        }
        self._report = report
        self.max_bytes = max_bytes
        self._rates = Rates(per_minute)
        self._clock = clock
        self._lock = threading.Lock()
        self._minute, self._reports, self._unreported = 0, 0, 0

    def receive(self, provider: str, headers: Mapping[str, str], raw_body: bytes, *, address: str = "") -> Answer:
        """Verify a request, accept its event as a job, and say what to answer. Raises nothing.

        Parameters:
          address: of the sender, as the outermost proxy of ours saw it.
        """
        wait_seconds = self._rates.wait(provider if provider in PROVIDERS else "", address)
        if wait_seconds:
            answer = self._refuse(provider, address, 429, "rate", "it comes too often")
            return replace(answer, headers=(("Retry-After", str(wait_seconds)),))
        try:
            self._check_address(provider, address)
            if len(raw_body) > self.max_bytes:
                raise _Turned(413, "size", f"over {self.max_bytes:,} bytes")
            event = verify(provider, headers, raw_body, senders=self._senders, now_seconds=self._clock())
            return self._accept(event)
        except Refused as refused:
            return self._refuse(provider, address, _STATUS[refused.reason], refused.reason, str(refused))
        except _Turned as turned:
            return self._refuse(provider, address, turned.status, turned.reason, str(turned))
        except (Unverifiable, RedisUnavailable, EncryptionError) as trouble:
            _log.error("webhook of %s cannot be taken now: %s", provider, trouble)
            return _answer(503, "SERVICE_UNAVAILABLE", "it cannot be taken now; send it again")

    def _check_address(self, provider: str, address: str) -> None:
        networks = self._allow.get(provider)
        if networks is None:
            return
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            raise _Turned(403, "address", "its address is not known") from None
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        if not any(parsed in network for network in networks):
            raise _Turned(403, "address", f"{parsed} is not on the list")

    def _accept(self, verified: Verified) -> Answer:
        event = Event(
            verified.provider,
            verified.id,
            verified.type,
            verified.created_at_ms,
            verified.subject,
            verified.payload,
        )
        try:
            with carry.sealing(any(handler.encrypt for handler in handlers_of(event.provider, event.type))):
                job_id = enqueue_once(handle, [asdict(event)], key=f"{event.provider}:{event.id}")
        except JobTooLarge as error:
            raise _Turned(413, "size", str(error)) from error
        return Answer(200, json.dumps({"received": True, "id": event.id, "job": job_id}).encode())

    def _refuse(self, provider: str, address: str, status: int, reason: str, detail: str) -> Answer:
        provider = provider[:40]
        unreported = self._may_report()
        if unreported is not None or status != 429:  # a flood must not become one of lines
            _log.warning("webhook of %r from %s refused: %s", provider, address or "an unknown address", detail)
        if self._report is not None and unreported is not None:
            try:
                self._report(Refusal(provider, reason, detail, address, unreported))
            except FourlaneError as error:
                _log.error("a refused webhook could not be recorded: %s", error)
            except Exception:
                _log.exception("a refused webhook could not be recorded")
        code, message = _WORDS.get(status, ("INVALID_REQUEST", "not taken"))
        return _answer(status, code, message)

    def _may_report(self) -> int | None:
        """How many went unreported before this one; None when this one does, too."""
        with self._lock:
            minute = int(self._clock() // 60)
            if minute != self._minute:
                self._minute, self._reports = minute, 0
            if self._reports >= _REPORTS_A_MINUTE:
                self._unreported += 1
                return None
            self._reports += 1
            unreported, self._unreported = self._unreported, 0
            return unreported


class _Turned(FourlaneError):
    """Turned away for a reason that is not the signature."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.status, self.reason = status, reason


_STATUS: Final = {"unknown provider": 404, "not configured": 503, "malformed": 400, "signature": 401, "age": 401}
# One text for each status: which gate it was is for our log, not for a forger.
_WORDS: Final = {
    401: ("UNAUTHORIZED", "the signature is not valid"),
    403: ("FORBIDDEN", "not from here"),
    404: ("RESOURCE_NOT_FOUND", "no webhooks are taken here"),
    413: ("INVALID_REQUEST", "too large"),
    429: ("RATE_LIMIT_EXCEEDED", "too often; send it again later"),
    503: ("SERVICE_UNAVAILABLE", "it cannot be taken now; send it again"),
}


def _answer(status: int, code: str, message: str) -> Answer:
    body: dict[str, Any] = {"error": {"code": code, "message": message}}
    return Answer(status, json.dumps(body).encode())
