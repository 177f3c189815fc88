"""The health of providers, held once for all workers: limits, circuit breaker, retries inside a call.

A call goes like this:

1. Ask for room: the breaker must let it through, and a request and its tokens must fit the provider's minute.
2. Make it. It is ended when it is silent for too long (liveness.py); ``permit.heard()`` says that it is not.
3. Book how it ended: the tokens that it really took, and what the answer says of the provider.
4. Where it failed in a way that may pass, wait 100, 200, then 400 ms and begin anew.

``HealthGuard.call`` does all that for a plain function, ``acall`` for a coroutine function:

    guard = HealthGuard(ProviderStates(broker.store))
    target = Target("resend", key=fingerprint(api_key))
    guard.call(target, Rules(requests_per_minute=120), lambda permit: send(...), read=read_error)

``read`` says what an error means, as a ``Signal`` (signals.py). A call that may not be made raises ``ProviderDown`` or
``ProviderLimited``: both are ``RateLimited``, so a job that lets them pass is postponed until then and spends no
attempt. A call that was made and failed raises its own error, also where the breaker opened meanwhile.

The breaker counts calls, not tries: one that fails again and again, by its retries here and in a job's later
attempts, counts once, so it takes the provider from nobody else. An open breaker lets one call
through, the probe, and closes at its first sign of life: a stream of a minute does not hold the others up.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as ended
from typing import Final, Protocol, TypeVar

from fourlane.errors import ProviderDown, ProviderLimited, RateLimited, RedisUnavailable, Reject
from fourlane.providers.liveness import watched
from fourlane.providers.permits import Permit, Rules, Target, fingerprint
from fourlane.providers.retry_after import MOST_MS
from fourlane.providers.signals import Signal
from fourlane.telling import tell

__all__ = ["HealthGuard", "Permit", "Rules", "States", "Target", "fingerprint"]

log = logging.getLogger("fourlane.providers")

T = TypeVar("T")

_NOTICED_SECONDS: Final = 0.005  # less is the way to Redis, no wait
_PROBE_MARGIN_MS: Final = 1_000
_CALLER_BYTES: Final = 6  # exact in the numbers of Lua


class States(Protocol):
    """Where the states lie: ``fourlane.queues.guards.ProviderStates``."""

    def reserve(
        self,
        provider: str,
        name: str,
        *,
        caller: int,
        requests_per_minute: int,
        tokens_per_minute: int,
        tokens: int,
        claim_ms: int,
        ramp_ms: int,
    ) -> tuple[str, int, int]: ...

    def settle(
        self,
        provider: str,
        name: str,
        *,
        caller: int,
        verdict: str,
        second: int,
        extra_tokens: int,
        claim: int,
        failures: int,
        open_ms: int,
        probe_ms: int,
        silence_ms: int,
    ) -> None: ...


class HealthGuard:
    """Lets calls through while their provider is well and has room. Threads and event loops may share one."""

    def __init__(self, states: States) -> None:
        self._states = states
        # Its own, because a program that fills asyncio's threads would stop all calls.
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="fourlane-health")

    # Whole calls --------------------------------------------------------------------------------------------

    def call(
        self,
        target: Target,
        rules: Rules,
        fn: Callable[[Permit], T],
        *,
        read: Callable[[BaseException], Signal],
        tokens: int = 0,
        call_id: str | None = None,
    ) -> T:
        """Call ``fn`` with a permit, again after failures that may pass, and return what it returns.

        Parameters:
          fn: makes the call, within the time that the rules give it; may call ``permit.heard()`` and set
            ``permit.used_tokens``.
          read: what an error of ``fn`` means.
          tokens: what the call may take at most, for the limit of tokens.
          call_id: the same for what is the same call, as its idempotency key is, over all attempts of a job: the
            breaker counts its failures once. None: it is one of its own.

        Raises:
          ProviderDown, ProviderLimited: it may not be made now, or the provider asked for silence.
          Reject: the tokens are over the limit of a whole minute.
          RedisUnavailable
          whatever ``fn`` raised last.
        """
        tries, caller = _Tries(target, rules), _caller(call_id)
        while True:
            permit = self._room(target, rules, tokens, caller)
            if isinstance(permit, RateLimited):
                raise tries.end(permit)
            try:
                value = fn(permit)
            except BaseException as error:
                signal = read(error)
                self.settle(permit, signal)
                pause = tries.pause(error, signal)
            else:
                self.settle(permit, Signal("ok", silence_ms=permit.silence_ms))
                return value
            time.sleep(pause)

    async def acall(
        self,
        target: Target,
        rules: Rules,
        fn: Callable[[Permit], Awaitable[T]],
        *,
        read: Callable[[BaseException], Signal],
        tokens: int = 0,
        call_id: str | None = None,
    ) -> T:
        """As call, for a coroutine function. One that takes longer than the rules allow is ended, which ``read`` sees
        as a TimeoutError. Nothing is waited for once ``fn`` has returned, so what it brought cannot be lost here."""
        tries, caller = _Tries(target, rules), _caller(call_id)
        while True:
            permit = await self._aroom(target, rules, tokens, caller)
            if isinstance(permit, RateLimited):
                raise tries.end(permit)
            try:
                async with watched(str(target), rules.limits, permit.signs):
                    value = await fn(permit)
            except BaseException as error:
                signal = Signal("neutral") if isinstance(error, asyncio.CancelledError) else read(error)
                # Shielded: a call that is cancelled, the probe above all, must not stay open in the books.
                await asyncio.shield(self.asettle(permit, signal))
                pause = tries.pause(error, signal)
            else:
                self._soon(self.settle, permit, Signal("ok", silence_ms=permit.silence_ms))
                return value
            await asyncio.sleep(pause)

    # Parts of calls -----------------------------------------------------------------------------------------

    def reserve(self, target: Target, rules: Rules, tokens: int = 0, call_id: str | None = None) -> Permit:
        """A permit for one call; waits for room up to ``rules.patience_seconds``. Raises as call does."""
        room = self._room(target, rules, tokens, _caller(call_id))
        if isinstance(room, RateLimited):
            raise room
        return room

    def settle(self, permit: Permit, signal: Signal) -> None:
        """Book the end of a call. Without Redis it is not booked: a call that was made and paid for is not undone."""
        if permit.booking is not None:
            ended([permit.booking])  # what is booked first is settled first
        tell.counted("provider_calls", (permit.target.provider, permit.target.model, signal.verdict))
        self._book(permit, signal.verdict, signal.silence_ms)

    async def asettle(self, permit: Permit, signal: Signal) -> None:
        """As settle, without blocking the event loop."""
        await asyncio.wrap_future(self._threads.submit(self.settle, permit, signal))

    def _book(self, permit: Permit, verdict: str, silence_ms: int = 0) -> None:
        ends = verdict != "alive"
        rules = permit.rules
        try:
            self._states.settle(
                permit.target.provider,
                permit.target.name,
                caller=permit.caller,
                verdict=verdict,
                second=permit.second,
                extra_tokens=permit.used_tokens - permit.tokens if ends and permit.used_tokens is not None else 0,
                claim=0 if ends and permit.signs.first is not None else permit.claim,  # which its first sign settled
                failures=rules.failures,
                open_ms=_ms(rules.open_seconds),
                probe_ms=_ms(rules.probe_seconds),
                silence_ms=min(silence_ms, MOST_MS),
            )
        except RedisUnavailable as error:
            log.warning("%s; that a call of %s ended %s is not booked", error, permit.target, verdict)

    def _alive(self, permit: Permit) -> Future[None]:
        """Book a call's first sign of life."""
        return self._soon(self._book, permit, "alive")

    def _soon(self, book: Callable[..., None], *args: object) -> Future[None]:
        booking = self._threads.submit(book, *args)
        booking.add_done_callback(_complain)
        return booking

    # Room ---------------------------------------------------------------------------------------------------

    def _room(self, target: Target, rules: Rules, tokens: int, caller: int) -> Permit | RateLimited:
        """A permit, if need be after a wait; or why there is none."""
        began = time.monotonic()
        while isinstance(room := self._ask(target, rules, tokens, caller, began), float):
            time.sleep(room)
        return room

    async def _aroom(self, target: Target, rules: Rules, tokens: int, caller: int) -> Permit | RateLimited:
        """As _room, without blocking the event loop."""
        began = time.monotonic()
        while True:
            asked = self._threads.submit(self._ask, target, rules, tokens, caller, began)
            try:
                room = await asyncio.wrap_future(asked)
            except asyncio.CancelledError:
                asked.add_done_callback(self._give_back)
                raise
            if not isinstance(room, float):
                return room
            await asyncio.sleep(room)

    def _give_back(self, asked: Future[Permit | RateLimited | float]) -> None:
        """Nobody waits for it any more: a permit, the probe above all, must not stay open in the books."""
        if asked.cancelled() or asked.exception() is not None:
            return
        permit = asked.result()
        if isinstance(permit, Permit):
            permit.used_tokens = 0
            self._soon(self._book, permit, "neutral")

    def _ask(
        self, target: Target, rules: Rules, tokens: int, caller: int, began: float
    ) -> Permit | RateLimited | float:
        """A permit, why there is none, or the seconds after which to ask again.

        Parameters:
          began: when it was asked for the first time, by the monotonic clock.
        """
        if 0 < rules.tokens_per_minute < tokens:
            raise Reject(
                f"{target}: {tokens:,} tokens are over its limit of {rules.tokens_per_minute:,} a minute; "
                "shorten the prompt or the answer"
            )
        word, number, second = self._states.reserve(
            target.provider,
            target.name,
            caller=caller,
            requests_per_minute=rules.requests_per_minute,
            tokens_per_minute=rules.tokens_per_minute,
            tokens=tokens,
            # One that is not answered holds the others up no longer than the breaker would.
            claim_ms=min(_ms(rules.limits.until_first) + _PROBE_MARGIN_MS, _ms(rules.open_seconds)),
            ramp_ms=_ms(rules.ramp_seconds),
        )
        waited = time.monotonic() - began
        if word in ("go", "probe"):
            if waited > _NOTICED_SECONDS:
                tell.timed("provider_wait_seconds", (target.provider, target.model), waited)
            # Of a probe the number is its claim, and all others wait for its first sign of life.
            return Permit(target, rules, tokens, caller, second, number, self._alive if number else None)
        # Those who were refused together shall not come back together.
        wait = number / 1000 * (1 + random.random() * 0.1) + 0.005
        if word == "open":
            tell.counted("provider_refused", (target.provider, target.model, "down"))
            return ProviderDown(str(target), wait)
        if waited + wait > rules.patience_seconds:
            tell.counted("provider_refused", (target.provider, target.model, "limited"))
            return ProviderLimited(str(target), wait)
        return wait


class _Tries:
    """The tries of one call: how long until the next, or the error that ends it."""

    def __init__(self, target: Target, rules: Rules) -> None:
        self._target = target
        self._patience = rules.patience_seconds
        self._waits = [ms / 1000 for ms in rules.retries_ms]
        self._failed: BaseException | None = None

    def pause(self, error: BaseException, signal: Signal) -> float:
        """Seconds until the next try, after one that failed; raises where there is none."""
        wait = self._waits.pop(0) if self._waits else None
        if signal.verdict != "limited":
            self._failed = error
            if wait is None or not signal.again:
                raise error
            return wait
        # How long, where the provider did not say, is known to the books: the next reservation waits for it.
        silence = signal.silence_ms / 1000 if signal.silence_ms >= 0 else 1.0
        if wait is None or silence > self._patience:
            refusal = ProviderLimited(str(self._target), silence)
            refusal.__cause__ = error
            raise self.end(refusal)
        return silence

    def end(self, refusal: RateLimited) -> BaseException:
        """What to raise where no try can be made now. A call that failed spends its job's attempt by its own error,
        though the provider refuses it by now: else a job that always fails would never end."""
        return self._failed or refusal


def _caller(call_id: str | None) -> int:
    """A call as a number."""
    if call_id is None:
        return random.getrandbits(_CALLER_BYTES * 8)
    return int.from_bytes(hashlib.blake2b(call_id.encode(), digest_size=_CALLER_BYTES).digest())


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _complain(booking: Future[None]) -> None:
    error = booking.exception()
    if error is not None:
        log.error("a call to a provider was not booked", exc_info=error)
