"""Limits and breakers that all workers share, on a real server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from fourlane.errors import ProviderDown, ProviderLimited, RateLimited, RedisUnavailable, Reject
from fourlane.providers.health import HealthGuard, Permit, Rules, Target, fingerprint
from fourlane.providers.signals import Signal
from fourlane.queues.guards import ProviderStates

TARGET = Target("openai", "gpt-4o", "k1")
IMPATIENT = Rules(patience_seconds=0.0, retries_ms=())


class Down(Exception):
    pass


def read(error: BaseException) -> Signal:
    return Signal("down", again=True) if isinstance(error, Down | TimeoutError) else Signal("neutral")


def fail(permit: Permit) -> None:
    raise Down


def test_five_failures_open_it_one_probe_closes_it_and_calls_come_back_slowly(
    guard: HealthGuard, states: ProviderStates
) -> None:
    rules = Rules(patience_seconds=0.0, retries_ms=(), open_seconds=0.3, ramp_seconds=2.0)
    for _ in range(5):
        with pytest.raises(Down):
            guard.call(TARGET, rules, fail, read=read)
    with pytest.raises(ProviderDown) as caught:
        guard.call(TARGET, rules, fail, read=read)
    assert isinstance(caught.value, RateLimited)
    assert 0 < caught.value.delay_ms <= 350
    assert states.look()[0].state == "open"

    time.sleep(0.35)
    probe = guard.reserve(TARGET, rules)
    assert probe.claim
    with pytest.raises(ProviderDown):  # one probe at a time
        guard.reserve(TARGET, rules)
    guard.settle(probe, Signal("down"))
    with pytest.raises(ProviderDown):  # a probe that fails opens it anew
        guard.reserve(TARGET, rules)

    time.sleep(0.35)
    guard.settle(guard.reserve(TARGET, rules), Signal("ok"))
    assert states.look()[0].state == "closed"
    through = 0
    for _ in range(10):
        try:
            guard.settle(guard.reserve(TARGET, rules), Signal("ok"))
            through += 1
        except ProviderLimited:
            pass
    assert 1 <= through <= 3  # the first tenth of the ramp, or the second


def test_a_success_between_failures_keeps_it_closed(guard: HealthGuard) -> None:
    for number in range(12):
        if number % 4 == 3:
            guard.call(TARGET, IMPATIENT, lambda permit: 1, read=read)
        else:
            with pytest.raises(Down):
                guard.call(TARGET, IMPATIENT, fail, read=read)
    guard.reserve(TARGET, IMPATIENT)


def test_it_tries_again_after_100_200_and_400_ms(guard: HealthGuard) -> None:
    calls: list[float] = []

    async def flaky(permit: Permit) -> str:
        calls.append(time.monotonic())
        if len(calls) < 4:
            raise Down
        return "x"

    assert asyncio.run(guard.acall(TARGET, Rules(), flaky, read=read)) == "x"
    waits = [b - a for a, b in pairwise(calls)]
    assert [w >= least for w, least in zip(waits, (0.1, 0.2, 0.4), strict=True)] == [True] * 3


def test_a_hanging_call_ends_in_time_and_counts(guard: HealthGuard, states: ProviderStates) -> None:
    async def hang(permit: Permit) -> None:
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        asyncio.run(guard.acall(TARGET, Rules(timeout_seconds=0.05, retries_ms=()), hang, read=read))
    assert states.look()[0].failures == 1


def test_a_silence_that_was_asked_for_holds_for_all(guard: HealthGuard, states: ProviderStates) -> None:
    guard.settle(guard.reserve(TARGET, IMPATIENT), Signal("limited", silence_ms=5_000))
    with pytest.raises(ProviderLimited) as caught:
        HealthGuard(states).reserve(TARGET, IMPATIENT)
    assert 4_000 < caught.value.delay_ms <= 5_600
    HealthGuard(states).reserve(Target("openai", "gpt-4o", "k2"), IMPATIENT)  # another key is not concerned


def test_silence_of_unknown_length_doubles(guard: HealthGuard, states: ProviderStates) -> None:
    first, second = guard.reserve(TARGET, IMPATIENT), guard.reserve(TARGET, IMPATIENT)
    guard.settle(first, Signal("limited", silence_ms=-1))
    assert 800 < states.look()[0].wait_ms <= 1_000
    guard.settle(second, Signal("limited", silence_ms=-1))
    assert 1_800 < states.look()[0].wait_ms <= 2_000


def test_tokens_are_reserved_and_settled(guard: HealthGuard) -> None:
    rules = Rules(patience_seconds=0.0, tokens_per_minute=1_000)
    permit = guard.reserve(TARGET, rules, 900)
    with pytest.raises(ProviderLimited):
        guard.reserve(TARGET, rules, 200)
    permit.used_tokens = 100
    guard.settle(permit, Signal("ok"))
    guard.reserve(TARGET, rules, 900)
    with pytest.raises(Reject, match="over its limit"):
        guard.reserve(TARGET, rules, 1_001)


def test_what_was_paid_for_is_not_lost_because_redis_is_away(
    states: ProviderStates, guard: HealthGuard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*args: object, **options: object) -> None:
        raise RedisUnavailable("Redis is away")

    monkeypatch.setattr(states, "settle", away)
    assert guard.call(TARGET, Rules(), lambda permit: "paid", read=read) == "paid"
    assert "is not booked" in caplog.text


CALLER = """
import sys, time
from fourlane.errors import ProviderLimited
from fourlane.providers.health import HealthGuard, Rules, Target
from fourlane.queues.redis import Connector, connect
from fourlane.queues.redis import Connector, client_of, connect
from fourlane.queues.guards import ProviderStates
from fourlane.queues.store import Store
guard = HealthGuard(ProviderStates(Store(Connector(client_of(sys.argv[1])), namespace=sys.argv[2])))
print("ready", flush=True)
sys.stdin.readline()
got, until = 0, time.monotonic() + 1.5
while time.monotonic() < until:
    try:
        guard.reserve(Target("p", "m", "k"), Rules(requests_per_minute=400, patience_seconds=0))
        got += 1
    except ProviderLimited:
        time.sleep(0.001)
print(got)
"""


def test_four_processes_never_exceed_the_limit(redis_url: str, namespace: str) -> None:
    command = [sys.executable, "-c", CALLER, redis_url, namespace]
    callers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(4)
    ]
    for caller in callers:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "ready\n"
    for caller in callers:
        assert caller.stdin is not None
        caller.stdin.write("go\n")
    got = [int(caller.communicate(timeout=60)[0]) for caller in callers]
    assert sum(got) == 400
    assert min(got) > 0, got  # they were at it together


def test_a_fingerprint_gives_nothing_away() -> None:
    assert fingerprint("sk-secret") != fingerprint("sk-secret2")
    assert "secret" not in fingerprint("sk-secret")
