"""When the breaker that all workers share opens, who may probe, and what closes it."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from typing import NoReturn

import pytest

from fourlane.errors import ProviderDown, ProviderLimited
from fourlane.providers.health import HealthGuard, Permit, Rules, Target
from fourlane.providers.signals import Signal
from fourlane.queues.guards import ProviderStates
from fourlane.queues.store import Store
from tests.servers import eventually

TARGET = Target("anthropic", "claude", "k1")
ONCE = Rules(patience_seconds=0.0, retries_ms=(), open_seconds=20.0, probe_seconds=0.1)
SLOW = dataclasses.replace(ONCE, probe_seconds=10.0)
OK, DOWN = Signal("ok"), Signal("down", again=True)


class Down(Exception):
    pass


def read(error: BaseException) -> Signal:
    return DOWN if isinstance(error, Down) else Signal("neutral")


def fail(permit: Permit) -> NoReturn:
    raise Down


def fails(guard: HealthGuard, *calls: str, rules: Rules = ONCE) -> None:
    for call_id in calls:
        with pytest.raises(Down):
            guard.call(TARGET, rules, fail, read=read, call_id=call_id)


def state(states: ProviderStates) -> tuple[str, int]:
    [one] = states.look()
    return one.state, one.failures


def reserve(states: ProviderStates, caller: int, *, claim_ms: int = 5_000) -> tuple[str, int]:
    word, number, _ = states.reserve(
        "p", "m", caller=caller, requests_per_minute=0, tokens_per_minute=0, tokens=0, claim_ms=claim_ms, ramp_ms=0,
    )  # fmt: skip
    return word, number


def settle(
    states: ProviderStates, caller: int, verdict: str, *, claim: int = 0, open_ms: int = 150, probe_ms: int = 100
) -> None:
    states.settle(
        "p", "m", caller=caller, verdict=verdict, second=0, extra_tokens=0, claim=claim, failures=5, open_ms=open_ms,
        probe_ms=probe_ms, silence_ms=0,
    )  # fmt: skip


def all_fail(states: ProviderStates, callers: int, **times_ms: int) -> None:
    for caller in range(callers):
        reserve(states, caller)
        settle(states, caller, "down", **times_ms)


def probe_ms(store: Store, provider: str = TARGET.provider, name: str = TARGET.name) -> int:
    """How long others wait until one may probe."""
    key = store.keys.health(provider, name)
    return int(store.connector.command(key, "HGET", key, "probe_ms"))


def probe(states: ProviderStates, caller: int, *, claim_ms: int = 5_000) -> int:
    """A claim, as soon as there is one for this caller."""

    def claim() -> int:
        word, number = reserve(states, caller, claim_ms=claim_ms)
        return number if word == "probe" else 0

    return eventually(claim)


# Who counts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "told"),
    [
        ("aaaaaaaaaa", ("closed", 1)),  # one that always fails
        ("abcd", ("closed", 4)),
        ("abcda", ("closed", 4)),
        ("abcde", ("open", 5)),
        ("ababacadae", ("open", 5)),
        ("aabb+ccdd+aabb+", ("closed", 0)),  # + succeeds
        ("abcd+abcd", ("closed", 0)),  # those that failed before say nothing new
        ("abcd+efgh", ("closed", 4)),
    ],
)
def test_five_other_calls_open_it(
    guard: HealthGuard, states: ProviderStates, calls: str, told: tuple[str, int]
) -> None:
    for call_id in calls:
        if call_id == "+":
            guard.call(TARGET, SLOW, lambda permit: 1, read=read)
        else:
            fails(guard, call_id, rules=SLOW)
    assert state(states) == told


def test_retries_inside_a_call_count_once(guard: HealthGuard, states: ProviderStates) -> None:
    with pytest.raises(Down):
        guard.call(TARGET, Rules(retries_ms=(1,) * 8), fail, read=read)
    assert state(states) == ("closed", 1)


def test_what_is_kept_of_failed_calls_is_bounded(states: ProviderStates, store: Store) -> None:
    all_fail(states, 100, open_ms=60_000, probe_ms=60_000)
    assert state(states) == ("open", 100)
    kept = store.connector.command(key := store.keys.health("p", "m"), "HKEYS", key)
    assert sorted(name for name in kept if name.startswith(b"failed")) == sorted(
        [b"failed", *(b"failed%d" % i for i in range(1, 65))]
    )


# Who may probe ----------------------------------------------------------------------------------------------------


def test_a_call_that_did_not_fail_probes_soon_and_those_that_failed_wait(
    guard: HealthGuard, states: ProviderStates
) -> None:
    fails(guard, *"abcde", rules=dataclasses.replace(ONCE, probe_seconds=0.5))
    with pytest.raises(ProviderDown) as fresh:
        guard.reserve(TARGET, ONCE, call_id="f")
    assert fresh.value.delay_ms <= 560
    with pytest.raises(ProviderDown) as failed:
        guard.reserve(TARGET, ONCE, call_id="a")
    assert failed.value.delay_ms > 15_000
    eventually(lambda: state(states)[0] == "probing")
    with pytest.raises(ProviderDown):
        guard.reserve(TARGET, ONCE, call_id="a")
    probe = guard.reserve(TARGET, ONCE, call_id="f")
    with pytest.raises(ProviderDown):  # one at a time
        guard.reserve(TARGET, ONCE, call_id="g")
    guard.settle(probe, OK)
    assert state(states) == ("closed", 0)


def test_each_probe_that_fails_doubles_the_wait_of_the_others(
    guard: HealthGuard, states: ProviderStates, store: Store
) -> None:
    rules = Rules(patience_seconds=0.0, retries_ms=(), open_seconds=0.3, probe_seconds=0.1)
    fails(guard, *"abcde", rules=rules)
    for call_id, wait_ms in ("f", 200), ("g", 300), ("h", 300):  # as long as it is open, at most
        eventually(lambda: state(states)[0] == "probing")
        fails(guard, call_id, rules=rules)
        assert probe_ms(store) == wait_ms


def test_a_failed_call_that_probes_and_fails_again_holds_nobody_up_for_longer(
    states: ProviderStates, store: Store
) -> None:
    all_fail(states, 5)
    settle(states, 4, "down", claim=probe(states, 4))
    assert states.look()[0].failures == 5
    assert probe_ms(store, "p", "m") == 100


def test_after_a_failed_call_probed_in_vain_another_may_try_at_once(states: ProviderStates) -> None:
    all_fail(states, 5, open_ms=150, probe_ms=100)
    settle(states, 4, "down", claim=probe(states, 4), open_ms=60_000, probe_ms=60_000)
    assert reserve(states, 4)[0] == "open"
    assert reserve(states, 9)[0] == "probe"


# What closes it ---------------------------------------------------------------------------------------------------


def opened(guard: HealthGuard) -> Permit:
    """The probe of a breaker that has opened."""
    fails(guard, *"abcde")
    time.sleep(0.11)
    permit = guard.reserve(TARGET, ONCE)
    assert permit.claim
    return permit


def test_the_first_sign_of_life_of_a_probe_closes_it(guard: HealthGuard, states: ProviderStates) -> None:
    probing = opened(guard)
    probing.heard()
    eventually(lambda: state(states) == ("closed", 0))
    probing.heard()
    guard.settle(probing, DOWN)  # breaks off later, as any call may
    assert state(states) == ("closed", 1)


def test_a_stream_that_probes_holds_nobody_up(guard: HealthGuard, states: ProviderStates) -> None:
    fails(guard, *"abcde")
    time.sleep(0.11)

    async def stream(permit: Permit) -> str:
        permit.heard()
        while state(states)[0] != "closed":
            await asyncio.sleep(0.01)
        await guard.acall(TARGET, Rules(), answer, read=read)
        return "whole"

    async def answer(permit: Permit) -> None:
        assert not permit.claim

    assert asyncio.run(guard.acall(TARGET, ONCE, stream, read=read)) == "whole"


@pytest.mark.parametrize(("verdict", "left"), [("neutral", "probing"), ("limited", "probing"), ("ok", "closed")])
def test_how_a_probe_may_end(guard: HealthGuard, states: ProviderStates, verdict: str, left: str) -> None:
    guard.settle(opened(guard), Signal(verdict))  # type: ignore[arg-type]
    assert state(states)[0] == left


def test_a_claim_that_ran_out_belongs_to_the_next(states: ProviderStates) -> None:
    all_fail(states, 5)
    late = probe(states, 10, claim_ms=30)
    mine = probe(states, 11)
    settle(states, 10, "down", claim=late)
    settle(states, 10, "neutral", claim=late)
    assert reserve(states, 12)[0] == "open"  # neither has taken the claim of the other
    settle(states, 11, "alive", claim=mine)
    assert state(states) == ("closed", 0)


@pytest.mark.parametrize("verdict", ["alive", "ok"])
def test_a_probe_that_is_answered_late_closes_it_all_the_same(states: ProviderStates, verdict: str) -> None:
    all_fail(states, 5)
    late = probe(states, 10, claim_ms=30)
    probe(states, 11)
    settle(states, 10, verdict, claim=late)
    assert state(states) == ("closed", 0)


def test_a_probe_that_is_not_answered_holds_the_others_up_no_longer_than_the_breaker(
    guard: HealthGuard, states: ProviderStates
) -> None:
    rules = dataclasses.replace(ONCE, open_seconds=0.4, first_seconds=600.0)
    fails(guard, *"abcde", rules=rules)
    eventually(lambda: state(states)[0] == "probing")
    hangs = guard.reserve(TARGET, rules)
    with pytest.raises(ProviderDown):
        guard.reserve(TARGET, rules)
    time.sleep(0.45)
    other = guard.reserve(TARGET, rules)
    assert (bool(hangs.claim), bool(other.claim)) == (True, True)
    other.heard()
    eventually(lambda: state(states) == ("closed", 0))


def test_the_end_of_a_probe_that_was_heard_closes_nothing_that_opened_since(
    guard: HealthGuard, states: ProviderStates
) -> None:
    probing = opened(guard)
    probing.heard()
    eventually(lambda: state(states) == ("closed", 0))
    fails(guard, *"ghijk", rules=dataclasses.replace(ONCE, ramp_seconds=0.0))
    guard.settle(probing, OK)
    assert state(states)[0] != "closed"


def test_an_answer_to_a_call_from_before_closes_nothing(states: ProviderStates) -> None:
    all_fail(states, 5, open_ms=60_000, probe_ms=60_000)
    settle(states, 9, "ok")
    assert state(states) == ("open", 5)


def test_a_cancelled_wait_leaves_no_claim_behind(
    guard: HealthGuard, states: ProviderStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(guard, *"abcde")
    time.sleep(0.11)
    asked, go_on, ask = threading.Event(), threading.Event(), states.reserve

    def slow(*args: str, **options: int) -> tuple[str, int, int]:
        reply = ask(*args, **options)
        asked.set()
        go_on.wait(5)
        return reply

    async def cancelled() -> None:
        call = asyncio.create_task(guard.acall(TARGET, ONCE, fail, read=read))
        await asyncio.to_thread(asked.wait, 5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    monkeypatch.setattr(states, "reserve", slow)
    asyncio.run(cancelled())
    go_on.set()
    monkeypatch.undo()
    assert eventually(lambda: _or_none(guard))


def _or_none(guard: HealthGuard) -> Permit | None:
    try:
        return guard.reserve(TARGET, ONCE)
    except ProviderDown:
        return None


# After it -----------------------------------------------------------------------------------------------------


def test_the_ramp_is_no_longer_than_it_was_open(guard: HealthGuard) -> None:
    began = time.monotonic()
    guard.settle(opened(guard), OK)
    time.sleep(time.monotonic() - began)
    for _ in range(20):
        guard.reserve(TARGET, ONCE)


def test_where_it_opens_again_soon_it_goes_on_where_it_was(guard: HealthGuard, store: Store) -> None:
    began = time.monotonic()
    guard.settle(opened(guard), OK)
    time.sleep(time.monotonic() - began)
    fails(guard, *"ghijk")
    assert probe_ms(store) == 200


def test_where_calls_ended_well_meanwhile_bad_ones_that_open_it_again_hold_the_others_up_for_less(
    states: ProviderStates, store: Store
) -> None:
    times = {"open_ms": 60_000, "probe_ms": 10}
    all_fail(states, 5, **times)
    for caller, wait_ms in (20, 20), (21, 40), (22, 80):
        settle(states, caller, "down", claim=probe(states, caller), **times)
        assert probe_ms(store, "p", "m") == wait_ms
    settle(states, 23, "ok", claim=probe(states, 23), **times)
    for first, wait_ms in (30, 40), (40, 20), (50, 10), (60, 10):
        settle(states, 24, "ok", **times)
        for caller in range(first, first + 5):
            settle(states, caller, "down", **times)
        assert probe_ms(store, "p", "m") == wait_ms
        settle(states, 25, "ok", claim=probe(states, 25), **times)


def test_the_state_that_older_workers_left_is_read(states: ProviderStates, store: Store) -> None:
    key = store.keys.health("p", "m")
    store.connector.command(key, "HSET", key, "failures", 7, "opened_until", 1, "opened", 1, "probe_until", 0)
    claim = probe(states, 1)
    settle(states, 1, "ok", claim=claim)
    assert reserve(states, 2) == ("go", 0)


# What a call raises -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limited", [False, True])
def test_a_call_that_failed_raises_its_own_error_though_it_is_refused_by_now(
    guard: HealthGuard, states: ProviderStates, limited: bool
) -> None:
    rules = Rules(patience_seconds=0.0, retries_ms=(1, 1, 1), open_seconds=20.0)

    def fails_as_others_do(permit: Permit) -> NoReturn:
        if limited:
            guard.settle(guard.reserve(TARGET, rules), Signal("limited", silence_ms=5_000))
        else:
            fails(guard, *"abcd")
        raise Down

    async def call() -> None:
        with pytest.raises(Down):
            guard.call(TARGET, rules, fails_as_others_do, read=read, call_id="e")
        with pytest.raises(ProviderLimited if limited else ProviderDown):  # was not tried
            await guard.acall(TARGET, rules, fail, read=read, call_id="e")

    asyncio.run(call())
