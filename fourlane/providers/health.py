"""The health of providers, held once for all workers: limits, circuit breaker, retries inside a call.

A call goes like this:

1. Ask for room: the breaker must let it through, and a request and its tokens must fit the provider's minute.
2. Make it, with a time limit.
3. Book how it ended: the tokens that it really took, and what the answer says of the provider.
4. Where it failed in a way that may pass, wait 100, 200, then 400 ms and begin anew.

``HealthGuard.call`` does all that for a plain function, ``acall`` for a coroutine function:

    guard = HealthGuard(ProviderStates(broker.store))
    target = Target("resend", key=fingerprint(api_key))
    guard.call(target, Rules(requests_per_minute=120), lambda: send(...), read=read_error)

``read`` says what an error means, as a ``Signal`` (signals.py). A call that may not be made raises ``ProviderDown`` or
``ProviderLimited``: both are ``RateLimited``, so a job that lets them pass is postponed until then and spends no
attempt.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from fourlane.errors import ProviderDown, ProviderLimited, RedisUnavailable, Reject
from fourlane.providers.retry_after import MOST_MS
from fourlane.providers.signals import Signal
from fourlane.telling import tell

__all__ = ["HealthGuard", "Permit", "Rules", "States", "Target", "fingerprint"]

log = logging.getLogger("fourlane.providers")

T = TypeVar("T")

_NOTICED_SECONDS: Final = 0.005  # less is the way to Redis, no wait


@dataclass(frozen=True, slots=True)
class Target:
    """Whose health it is: breaker and limits belong to a provider, a model and a key together.

    Parameters:
      provider: e.g. ``openai``, ``twilio``.
      model: where limits differ by it; else empty.
      key: ``fingerprint`` of the API key, never the key itself.
    """

    provider: str
    model: str = ""
    key: str = ""

    @property
    def name(self) -> str:
        return f"{self.model}:{self.key}"

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}" if self.model else self.provider


def fingerprint(api_key: str) -> str:
    """Eight characters that tell one key from another and give nothing of it away."""
    return hashlib.sha256(api_key.encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Rules:
    """How calls to a target are limited and retried.

    Parameters:
      requests_per_minute, tokens_per_minute: 0: no limit of ours.
      failures: calls that fail one after the other until the breaker opens.
      open_seconds: how long it stays open; then one call may try.
      ramp_seconds: after it closed, calls are let through in growing numbers for so long.
      retries_ms: the waits before calls that are made again after a failure that may pass.
      timeout_seconds: for one call; after it the probe of a breaker counts as lost too.
      patience_seconds: a wait for room up to this happens inside the call; a longer one postpones the job.
    """

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    failures: int = 5
    open_seconds: float = 30.0
    ramp_seconds: float = 10.0
    retries_ms: tuple[int, ...] = (100, 200, 400)
    timeout_seconds: float = 30.0
    patience_seconds: float = 2.0


@dataclass(slots=True)
class Permit:
    """A call that may be made. Settle each exactly once."""

    target: Target
    rules: Rules
    tokens: int
    second: int
    probe: bool
    used_tokens: int | None = field(default=None)
    """Set it to what the call really took; None leaves the reservation as it is."""
    silence_ms: int = 0
    """Set it when a good answer's headers say that nothing is left for a while."""


class States(Protocol):
    """Where the states lie: ``fourlane.queues.guards.ProviderStates``."""

    def reserve(
        self,
        provider: str,
        name: str,
        *,
        requests_per_minute: int,
        tokens_per_minute: int,
        tokens: int,
        probe_ms: int,
        ramp_ms: int,
    ) -> tuple[str, int, int]: ...

    def settle(
        self,
        provider: str,
        name: str,
        *,
        verdict: str,
        second: int,
        extra_tokens: int,
        probe: bool,
        failures: int,
        open_ms: int,
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
    ) -> T:
        """Call ``fn`` with a permit, again after failures that may pass, and return what it returns.

        Parameters:
          fn: makes the call, within ``rules.timeout_seconds``; may set ``permit.used_tokens``.
          read: what an error of ``fn`` means.
          tokens: what the call may take at most, for the limit of tokens.

        Raises:
          ProviderDown, ProviderLimited: it may not be made now, or the provider answered so.
          Reject: the tokens are over the limit of a whole minute.
          RedisUnavailable
          whatever ``fn`` raised last.
        """
        for retry in range(len(rules.retries_ms) + 1):
            permit = self.reserve(target, rules, tokens)
            try:
                value = fn(permit)
            except BaseException as error:
                signal = read(error)
                self.settle(permit, signal)
                pause = self._pause(permit, signal, retry, error)
            else:
                self.settle(permit, Signal("ok", silence_ms=permit.silence_ms))
                return value
            time.sleep(pause)
        raise AssertionError("unreachable")

    async def acall(
        self,
        target: Target,
        rules: Rules,
        fn: Callable[[Permit], Awaitable[T]],
        *,
        read: Callable[[BaseException], Signal],
        tokens: int = 0,
    ) -> T:
        """As call, for a coroutine function; ended after ``rules.timeout_seconds``, which ``read`` sees as
        TimeoutError."""
        for retry in range(len(rules.retries_ms) + 1):
            permit = await self.areserve(target, rules, tokens)
            try:
                async with asyncio.timeout(rules.timeout_seconds):
                    value = await fn(permit)
            except BaseException as error:
                signal = Signal("neutral") if isinstance(error, asyncio.CancelledError) else read(error)
                # Shielded: a call that is cancelled, the probe above all, must not stay open in the books.
                await asyncio.shield(self.asettle(permit, signal))
                pause = self._pause(permit, signal, retry, error)
            else:
                await self.asettle(permit, Signal("ok", silence_ms=permit.silence_ms))
                return value
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def _pause(self, permit: Permit, signal: Signal, retry: int, error: BaseException) -> float:
        """Seconds until the next try; raises where there is none."""
        waits = permit.rules.retries_ms
        if signal.verdict == "limited":
            # How long, where the provider did not say, is known to the books: the next reservation waits for it.
            silence = signal.silence_ms / 1000 if signal.silence_ms >= 0 else 1.0
            if silence > permit.rules.patience_seconds or retry >= len(waits):
                raise ProviderLimited(str(permit.target), silence) from error
            return silence
        if not signal.again or retry >= len(waits):
            raise error
        return waits[retry] / 1000

    # Parts of calls -----------------------------------------------------------------------------------------

    def reserve(self, target: Target, rules: Rules, tokens: int = 0) -> Permit:
        """A permit for one call; waits for room up to ``rules.patience_seconds``. Raises as call does."""
        began = time.monotonic()
        while True:
            permit, wait = self._ask(target, rules, tokens, began)
            if permit is not None:
                return permit
            time.sleep(wait)

    async def areserve(self, target: Target, rules: Rules, tokens: int = 0) -> Permit:
        """As reserve, without blocking the event loop."""
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        while True:
            permit, wait = await loop.run_in_executor(self._threads, self._ask, target, rules, tokens, began)
            if permit is not None:
                return permit
            await asyncio.sleep(wait)

    def settle(self, permit: Permit, signal: Signal) -> None:
        """Book the end of a call. Without Redis it is not booked: a call that was made and paid for is not undone."""
        tell.counted("provider_calls", (permit.target.provider, permit.target.model, signal.verdict))
        extra = 0 if permit.used_tokens is None else permit.used_tokens - permit.tokens
        try:
            self._states.settle(
                permit.target.provider,
                permit.target.name,
                verdict=signal.verdict,
                second=permit.second,
                extra_tokens=extra,
                probe=permit.probe,
                failures=permit.rules.failures,
                open_ms=int(permit.rules.open_seconds * 1000),
                silence_ms=min(signal.silence_ms, MOST_MS),
            )
        except RedisUnavailable as error:
            log.warning("%s; that a call of %s ended %s is not booked", error, permit.target, signal.verdict)

    async def asettle(self, permit: Permit, signal: Signal) -> None:
        """As settle, without blocking the event loop."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self.settle, permit, signal)

    def _ask(self, target: Target, rules: Rules, tokens: int, began: float) -> tuple[Permit | None, float]:
        """A permit, or the seconds after which to ask again.

        Parameters:
          began: when it was asked for the first time, by the monotonic clock.
        """
        if 0 < rules.tokens_per_minute < tokens:
            raise Reject(
                f"{target}: {tokens:,} tokens are over its limit of {rules.tokens_per_minute:,} a minute; "
                "shorten the prompt or the answer"
            )
        word, wait_ms, second = self._states.reserve(
            target.provider,
            target.name,
            requests_per_minute=rules.requests_per_minute,
            tokens_per_minute=rules.tokens_per_minute,
            tokens=tokens,
            probe_ms=int(rules.timeout_seconds * 1000) + 1_000,
            ramp_ms=int(rules.ramp_seconds * 1000),
        )
        waited = time.monotonic() - began
        if word in ("go", "probe"):
            if waited > _NOTICED_SECONDS:
                tell.timed("provider_wait_seconds", (target.provider, target.model), waited)
            return Permit(target, rules, tokens, second, word == "probe"), 0.0
        # Those who were refused together shall not come back together.
        wait = wait_ms / 1000 * (1 + random.random() * 0.1) + 0.005
        if word == "open":
            tell.counted("provider_refused", (target.provider, target.model, "down"))
            raise ProviderDown(str(target), wait)
        if waited + wait > rules.patience_seconds:
            tell.counted("provider_refused", (target.provider, target.model, "limited"))
            raise ProviderLimited(str(target), wait)
        return None, wait
