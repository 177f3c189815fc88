"""A call is ended by silence or by a total, and says which; never by its length."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from fourlane.providers.health import HealthGuard, Permit, Rules, Target
from fourlane.providers.liveness import Limits, Signs
from fourlane.providers.signals import Signal
from fourlane.queues.guards import ProviderStates

TARGET = Target("openai", "gpt-4o", "k1")


@pytest.mark.parametrize(
    ("limits", "last", "end", "words"),
    [
        # It began at 100. Nothing was heard:
        (Limits(30), None, 130, "no answer within 30 s"),
        (Limits(30, first=90), None, 190, "no first piece within 90 s"),
        (Limits(30, first=0.5), None, 100.5, "no first piece within 0.5 s"),
        (Limits(30, total=20), None, 120, "not done within 20 s in all"),
        (Limits(30, first=90, total=60), None, 160, "not done within 60 s in all"),
        # Heard at 150:
        (Limits(30), 150, 180, "no piece for 30 s"),
        (Limits(30, first=5), 150, 180, "no piece for 30 s"),
        (Limits(30, total=60), 150, 160, "not done within 60 s in all"),
        (Limits(30, total=600), 150, 180, "no piece for 30 s"),
    ],
)
def test_which_limit_ends_a_call(limits: Limits, last: float | None, end: float, words: str) -> None:
    assert limits.end(Signs(began=100, first=last, last=last)) == (end, words)


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [(Limits(30), 30), (Limits(30, first=90), 90), (Limits(30, first=5), 5), (Limits(30, first=90, total=60), 60)],
)
def test_how_long_the_first_sign_may_take(limits: Limits, seconds: float) -> None:
    assert limits.until_first == seconds


def run(guard: HealthGuard, rules: Rules, fn: Callable[[Permit], Awaitable[str]]) -> str:
    return asyncio.run(
        guard.acall(
            TARGET, rules, fn, read=lambda error: Signal("down" if isinstance(error, TimeoutError) else "neutral")
        )
    )


async def speak(permit: Permit, pieces: int) -> str:
    for _ in range(pieces):
        await asyncio.sleep(0.03)
        permit.heard()
    return "whole"


def test_a_stream_may_take_longer_than_any_silence(guard: HealthGuard) -> None:
    rules = Rules(timeout_seconds=0.2, retries_ms=())
    assert run(guard, rules, lambda permit: speak(permit, 12)) == "whole"


@pytest.mark.parametrize(
    ("rules", "pieces", "words"),
    [
        (Rules(timeout_seconds=0.1, retries_ms=()), 0, "openai/gpt-4o: no answer within 0.1 s"),
        (Rules(timeout_seconds=0.1, retries_ms=()), 3, "openai/gpt-4o: no piece for 0.1 s"),
        (Rules(first_seconds=0.1, retries_ms=()), 0, "openai/gpt-4o: no first piece within 0.1 s"),
        (Rules(total_seconds=0.1, retries_ms=()), 100, "openai/gpt-4o: not done within 0.1 s in all"),
    ],
)
def test_one_that_is_ended_says_why(
    guard: HealthGuard, states: ProviderStates, rules: Rules, pieces: int, words: str
) -> None:
    async def hang(permit: Permit) -> str:
        await speak(permit, pieces)
        await asyncio.sleep(60)
        return "never"

    began = time.monotonic()
    with pytest.raises(TimeoutError, match=words):
        run(guard, rules, hang)
    assert time.monotonic() - began < 10
    assert states.look()[0].failures == 1


def test_a_loop_that_was_held_up_ends_no_stream(guard: HealthGuard) -> None:
    async def held_up(permit: Permit) -> str:
        permit.heard()
        pieces: asyncio.Queue[str] = asyncio.Queue()
        asyncio.get_running_loop().call_later(0.05, pieces.put_nowait, "piece")
        await asyncio.sleep(0)
        time.sleep(0.2)  # someone else's code: meanwhile the piece came
        piece = await pieces.get()
        for _ in range(5):  # it goes through the layers of a client
            await asyncio.sleep(0)
        permit.heard()
        return piece

    assert run(guard, Rules(timeout_seconds=0.1, retries_ms=()), held_up) == "piece"


def test_its_own_timeout_keeps_its_words(guard: HealthGuard) -> None:
    async def own(permit: Permit) -> str:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        run(guard, Rules(retries_ms=()), own)
