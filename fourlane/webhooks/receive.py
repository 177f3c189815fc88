"""A request becomes a job: the gates in their order, and the answer for each.

1. What can be said before the body is there: provider, rate, address, size (``gates.py``).
2. Its real size, before anything is computed over it.
3. Signature and age (``verify.py``).
4. Its transmission, where the signature does not bind the whole body: only the first body that came with it is taken.
5. Its id, remembered in the script that accepts the job: the same event again is answered "yes" and does nothing.

An answer other than 2xx makes the provider send again later. So a refusal is final for us and not for them, and what
is our own trouble (Redis away, PayPal's certificate not to be had) is 503: nothing is lost.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fourlane.errors import FourlaneError, InvalidArguments, JobTooLarge
from fourlane.queues import carry
from fourlane.queues.guards.senders import KnownSenders
from fourlane.webhooks import fault
from fourlane.webhooks.address import plain
from fourlane.webhooks.gates import Gates
from fourlane.webhooks.handlers import SERVICE, enqueue_once, event_of, handle, handlers_of
from fourlane.webhooks.refusals import Refusal, Refusals
from fourlane.webhooks.refused import STATUS, Refused
from fourlane.webhooks.verify import Senders, Verified, verify

__all__ = ["MAX_BYTES", "PER_MINUTE", "Answer", "Receiver", "Refusal", "answer_of"]

A = TypeVar("A")
_log = logging.getLogger("fourlane.webhooks")

MAX_BYTES: Final = 524_288
PER_MINUTE: Final = 3_000
_AGAIN_SECONDS: Final = 10
_TRANSMISSION_MS: Final = 3_600_000
"""How long a transmission is remembered, beside the time for which it is young enough to be taken."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer: an HTTP status, JSON, and headers of this answer."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


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
        self.max_bytes = max_bytes
        self._gates = Gates(allow or {}, per_minute, max_bytes, _known_senders)
        self._refusals = Refusals(report, clock)
        self._clock = clock

    def receive(self, provider: str, headers: Mapping[str, str], raw_body: bytes, *, address: str = "") -> Answer:
        """Verify a request, accept its event as a job, and say what to answer. Raises nothing.

        Parameters:
          address: of the sender, as the outermost proxy of ours saw it.
        """
        refused = self.admit(provider, address=address, length=len(raw_body))
        return refused or self.take(provider, headers, raw_body, address=address)

    def admit(self, provider: str, *, address: str = "", length: int | None = None) -> Answer | None:
        """The gates that need no body; None for a request that passes. Raises nothing.

        An endpoint asks it before it reads the body, and then calls `take` in place of `receive`.

        Parameters:
          length: of the body, as far as the request says.
        """
        sender = plain(address)
        return self._answered(provider, sender, lambda: self._gates.check(provider, sender, length))

    def take(self, provider: str, headers: Mapping[str, str], raw_body: bytes, *, address: str = "") -> Answer:
        """As `receive`, for a request that was admitted. Raises nothing."""
        sender = plain(address)
        return self._answered(provider, sender, lambda: self._take(provider, headers, raw_body, sender))

    def gave_up(self, provider: str, seconds: float, *, address: str = "") -> Answer:
        """The answer to a request whose body did not come in time."""
        late = Refused("slow", f"its body was not there after {seconds:g} s")
        return self._refuse(provider, plain(address), late)

    def _answered(self, provider: str, sender: str, act: Callable[[], A]) -> A | Answer:
        try:
            return act()
        except Refused as refused:
            return self._refuse(provider, sender, refused)
        except FourlaneError as trouble:
            _log.error("webhook of %r cannot be taken now: %s", provider, trouble)
        except Exception as error:
            _log.error("webhook of %.40r cannot be taken, by a fault of ours: %s", provider, fault.told(error))
        return answer_of(503, _AGAIN_SECONDS)

    def _take(self, provider: str, headers: Mapping[str, str], raw_body: bytes, sender: str) -> Answer:
        self._gates.check_size(len(raw_body))
        now = self._clock()
        try:
            verified = verify(provider, headers, raw_body, senders=self._senders, now_seconds=now, address=sender)
            self._bind(verified, raw_body)
            return _accept(verified)
        except Refused as refused:
            if refused.reason not in _LOST:
                raise
            raise _with_traces(refused, raw_body) from refused

    def _bind(self, verified: Verified, raw_body: bytes) -> None:
        """Hold a transmission to the first body that came with it."""
        if not verified.transmission:
            return
        digest = hashlib.sha256(raw_body).hexdigest()
        ttl_ms = _TRANSMISSION_MS + 2_000 * self._senders.tolerance_seconds
        key = f"{verified.provider}:{verified.transmission}"
        if _known_senders().first_seen(SERVICE, key, digest, ttl_ms=ttl_ms) != digest:
            raise Refused("transmission", f"{verified.transmission} came with another body before")

    def _refuse(self, provider: str, sender: str, refused: Refused) -> Answer:
        self._refusals.tell(provider, sender, refused)
        status = STATUS[refused.reason]
        return answer_of(status, refused.after_seconds or (_AGAIN_SECONDS if status == 503 else 0))


def _known_senders() -> KnownSenders:
    return KnownSenders(handle.broker.opened.store)


def _accept(verified: Verified) -> Answer:
    event = event_of(verified)
    try:
        with carry.sealing(any(handler.encrypt for handler in handlers_of(verified.provider, verified.type))):
            job_id = enqueue_once(handle, [event], key=f"{verified.provider}:{verified.id}")
    except JobTooLarge as error:
        raise Refused("size", str(error)) from error
    except InvalidArguments as error:
        raise Refused("unusable", str(error)) from error
    return Answer(200, json.dumps({"received": True, "id": verified.id, "job": job_id}).encode())


_LOST: Final = ("unusable", "size")
_ID: Final = re.compile(rb'"id"\s*:\s*"([\w.-]{1,100})"')


def _with_traces(refused: Refused, raw_body: bytes) -> Refused:
    """With what finds the event at its provider: it is genuine, and nobody has it."""
    found = _ID.search(raw_body[:4_096])
    name = f"id {found[1].decode()}, " if found else ""
    digest = hashlib.sha256(raw_body).hexdigest()[:16]
    return Refused(refused.reason, f"{refused.detail} ({name}{len(raw_body):,} bytes, SHA-256 {digest})")


# One text for each status: which gate it was is for our log, not for a forger.
_WORDS: Final = {
    401: ("UNAUTHORIZED", "the signature is not valid"),
    403: ("FORBIDDEN", "not from here"),
    404: ("RESOURCE_NOT_FOUND", "no webhooks are taken here"),
    408: ("INVALID_REQUEST", "too slow"),
    413: ("INVALID_REQUEST", "too large"),
    429: ("RATE_LIMIT_EXCEEDED", "too often; send it again later"),
    503: ("SERVICE_UNAVAILABLE", "it cannot be taken now; send it again"),
}


def answer_of(status: int, after_seconds: int = 0) -> Answer:
    """The answer to what is not taken."""
    code, message = _WORDS.get(status, ("INVALID_REQUEST", "not taken"))
    body: dict[str, Any] = {"error": {"code": code, "message": message}}
    headers = (("Retry-After", str(after_seconds)),) if after_seconds else ()
    return Answer(status, json.dumps(body).encode(), headers)
