"""Calls whose reply was lost: what is done, and what is told, is what one call does and tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import pytest

from fourlane.events.tries import Tries
from fourlane.job import State
from fourlane.queues import control, dead_letters, schedules
from fourlane.queues.claims import Claim, Claims
from fourlane.queues.dead_letters import trail
from fourlane.queues.guards import Asked, Bound, Budgets, PaidCall, ProviderStates
from fourlane.queues.journal import Lease, journal_of
from fourlane.queues.output import read_log, read_output
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.redis.scripts import script
from fourlane.queues.results import Results
from fourlane.queues.store import Store
from tests.proxy import FaultyProxy
from tests.queues.conftest import Hand

T = TypeVar("T")
LIMITS: Final[dict[str, int]] = {"requests_per_minute": 10, "tokens_per_minute": 1_000, "tokens": 100}
RESERVED: Final = LIMITS | {"caller": 1, "claim_ms": 60_000, "ramp_ms": 1}


class Caller:
    """Calls by way of a proxy that loses the reply to a call's script; ``hand`` prepares and looks another way."""

    def __init__(self, store: Store, hand: Hand, proxy: FaultyProxy, how: str) -> None:
        self.store = store
        self.hand = hand
        self._proxy = proxy
        self._how = how

    def lose(self, call: Callable[[], T]) -> T:
        """``lost``: it is done, and its reply is lost. ``late``: it is done only after it was repeated."""
        if self._how == "lost":
            self._proxy.drop_next_reply(b"EVAL")
            told = call()
            self._proxy.wait_dropped()
        else:
            self._proxy.hold_next_request(b"EVAL")
            told = call()
            self._proxy.deliver_held()
        return told


@pytest.fixture(params=["lost", "late"])
def caller(redis_url: str, namespace: str, hand: Hand, request: pytest.FixtureRequest) -> Iterator[Caller]:
    server = urlsplit(redis_url)
    for file in (resources.files("fourlane.queues") / "lua").iterdir():
        if file.name.endswith(".lua"):
            hand.store.connector.client.script_load(script(file.name[:-4]).source.decode())
    with FaultyProxy(server.hostname or "", server.port or 0) as proxy:
        store = Store(Connector(client_of(proxy.url(redis_url))), namespace=namespace, environment="local")
        store.announce("mail")
        yield Caller(store, hand, proxy, request.param)
        store.connector.close()


def provider_reserve(caller: Caller) -> Any:
    states = ProviderStates(caller.store)
    states._index.announce("openai|gpt")
    word, _, _ = caller.lose(lambda: states.reserve("openai", "gpt", **RESERVED))
    [seen] = states.look()
    return word, seen.requests, seen.tokens


def provider_reserve_the_last(caller: Caller) -> Any:
    states = ProviderStates(caller.store)
    states._index.announce("openai|gpt")
    limits = RESERVED | {"requests_per_minute": 1}
    return caller.lose(lambda: states.reserve("openai", "gpt", **limits))[0]


def _settle(states: ProviderStates, verdict: str, second: int = 1, **given: Any) -> None:
    rest = {"caller": 1, "extra_tokens": 0, "claim": 0, "failures": 5, "open_ms": 1, "probe_ms": 1, "silence_ms": 0}
    states.settle("openai", "gpt", verdict=verdict, second=second, **rest | given)


def provider_probe(caller: Caller) -> Any:
    states = ProviderStates(caller.store)
    states._index.announce("openai|gpt")
    _settle(states, "down", caller=2, failures=1, open_ms=0)
    return caller.lose(lambda: states.reserve("openai", "gpt", **RESERVED))[0]


def provider_settle(caller: Caller) -> Any:
    states = ProviderStates(caller.store)
    _, _, second = states.reserve("openai", "gpt", **RESERVED)
    caller.lose(lambda: _settle(states, "down", second, extra_tokens=-30))
    [seen] = states.look()
    return seen.failures, seen.tokens


def provider_silence(caller: Caller) -> Any:
    states = ProviderStates(caller.store)
    states._index.announce("openai|gpt")
    caller.lose(lambda: _settle(states, "limited", silence_ms=-1))
    [seen] = states.look()
    return seen.wait_ms <= 1_000


CALL = PaidCall("call", "acme", "2026-11-28", "t", "p/m")
BOUND = Bound(0, "", 100, 80)


def budget_reserve(caller: Caller) -> Any:
    budgets = Budgets(caller.store)
    asked = caller.lose(lambda: budgets.reserve(CALL, 90, [BOUND]))
    return asked, budgets.look("acme", "2026-11").held


def budget_settle(caller: Caller) -> Any:
    budgets = Budgets(caller.store)
    budgets.reserve(CALL, 90, [BOUND])
    caller.lose(lambda: budgets.settle(CALL, 80))
    account = budgets.look("", "2026-11-28")
    return account.spent, account.calls, budgets.look("acme", "2026-11").held


def leave(caller: Caller) -> Any:
    caller.hand.enqueue(2)
    caller.hand.turn(2)
    went = caller.lose(lambda: caller.store.leave("mail", "w1", "1;1:5"))
    stats = caller.store.service("mail").stats
    return went, caller.store.connector.command(stats, "HGET", stats, "done:1")


def reclaim(caller: Caller) -> Any:
    [lost] = caller.hand.enqueue()
    [leased] = caller.hand.turn(1).jobs
    caller.store.crash_limit = 1
    back, poisoned = caller.lose(lambda: caller.store.reclaim("mail", "w1", "it died", begun=[leased.entry]))
    told = Results(caller.store).look("mail", lost)
    return back, poisoned == [lost], told, [job.body[:17] for job in caller.hand.turn(9).jobs]


def purge(caller: Caller) -> Any:
    caller.hand.enqueue(3)
    return caller.lose(lambda: control.purge(caller.store, "mail"))


def discard(caller: Caller) -> Any:
    died = caller.hand.kill(2)
    return caller.lose(lambda: dead_letters.discard(caller.store, died))


def replay(caller: Caller) -> Any:
    died = caller.hand.kill(2)
    results = Results(caller.store)
    results.tell_end("mail", died[0], b"void")
    replayed = caller.lose(lambda: dead_letters.replay(caller.store, died))
    return replayed, results.look("mail", died[0]), len(caller.hand.turn(9).jobs)


def edit(caller: Caller) -> Any:
    [died] = caller.hand.kill()
    return caller.lose(lambda: dead_letters.edit(caller.store, died, args=[7])).args


def import_(caller: Caller) -> Any:
    caller.hand.kill(2)
    lines = list(dead_letters.export(caller.store))
    dead_letters.discard(caller.hand.store, dead_letters.Filter())
    taken = caller.lose(lambda: dead_letters.import_(caller.store, lines))
    return taken.taken


def audit(caller: Caller) -> Any:
    caller.lose(lambda: trail.note(caller.store, "discard", ["1a"], 1, "me"))
    return len(dead_letters.audit(caller.store))


def cancel_ready(caller: Caller) -> Any:
    [job_id] = caller.hand.enqueue()
    state = caller.lose(lambda: control.cancel(caller.store, job_id, has_callbacks=lambda _: True))
    assert b"before it ran" in (Results(caller.store).look("mail", job_id) or b"")
    return state, [job.body[:17] for job in caller.hand.turn(9).jobs]


def cancel_delayed(caller: Caller) -> Any:
    job_id = caller.hand.delay()
    state = caller.lose(lambda: control.cancel(caller.store, job_id, has_callbacks=lambda _: True))
    return state, [job.body[:17] for job in caller.hand.turn(9).jobs]


def leave_cancelled(caller: Caller) -> Any:
    return ends_cancelled(caller, lambda entry: caller.store.leave("mail", "w1", ""))


def reclaim_cancelled(caller: Caller) -> Any:
    return ends_cancelled(caller, lambda entry: caller.store.reclaim("mail", "w1", "it died", begun=[entry]))


def ends_cancelled(caller: Caller, end: Callable[[str], object]) -> Any:
    [job_id] = caller.hand.enqueue()
    [leased] = caller.hand.turn(1).jobs
    control.cancel(caller.store, job_id, has_callbacks=lambda _: True)
    caller.lose(lambda: end(leased.entry))
    return [job.body[:17] for job in caller.hand.turn(9).jobs]


def tries(caller: Caller) -> Any:
    counted = Tries(caller.store)
    caller.lose(lambda: counted.failed("m", "handler", "boom", 5))
    return counted.read("m").failures


def output(caller: Caller) -> Any:
    caller.hand.enqueue()
    [leased] = caller.hand.turn(1).jobs
    lease, journal = Lease("mail", "w1", leased.entry), journal_of(caller.store)

    def say() -> None:
        heard = [journal.say(lease, "text", "r", "abc"), journal.say(lease, "log", "r", "line", now=True)]
        for said in heard:
            said.result(10)

    caller.lose(say)
    pieces = read_output(caller.store, "mail", lease.job_id, ended=lambda: True, timeout_seconds=1)
    return [piece.text for piece in pieces], read_log(caller.store, "mail", lease.job_id)


def schedule_ended(caller: Caller) -> Any:
    store, keys = caller.store, caller.store.service("mail")
    store.connector.command(keys.states, "HSET", keys.states, "s", '{"version":"1"}')
    caller.lose(lambda: schedules.ended(store, "mail", "s", "e 1 1a done 1 1"))
    return store.connector.command(keys.states, "LLEN", keys.runs("s"))


def schedule_write(caller: Caller) -> Any:
    write = schedules.Write("s", b"", b"{}", b'{"version":"1"}', 1)
    return caller.lose(lambda: schedules.write(caller.store, "mail", [write]))


def claim(caller: Caller) -> Any:
    told = caller.lose(lambda: Claims(caller.store).claim("mail", "1.e", "me", 60_000))
    return told, Claims(caller.store).claim("mail", "1.e", "you", 60_000)


def done(caller: Caller) -> Any:
    claims = Claims(caller.store)
    claims.claim("mail", "1.e", "me", 60_000)
    caller.lose(lambda: claims.done("mail", "1.e", "me"))
    return claims.claim("mail", "1.e", "you", 60_000)


def release(caller: Caller) -> Any:
    claims = Claims(caller.store)
    claims.claim("mail", "1.e", "me", 60_000)
    caller.lose(lambda: claims.release("mail", "1.e", "me"))
    return claims.claim("mail", "1.e", "you", 60_000)


TOLD_ONCE = [b'["fourlane.ended"']
CASES: Final[list[tuple[Callable[[Caller], Any], Any]]] = [
    (provider_reserve, ("go", 1, 100)),
    (provider_reserve_the_last, "go"),
    (provider_probe, "probe"),
    (provider_settle, (1, 70)),
    (provider_silence, True),
    (budget_reserve, (Asked(None, 0, ((0, 90),)), {"": 90})),
    (budget_settle, (80, 1, {"": 0})),
    (leave, (2, b"5")),
    (reclaim, (0, True, b'{"error":"poison: it died"}', TOLD_ONCE)),
    (purge, 3),
    (discard, 2),
    (replay, (2, None, 2)),
    (edit, [7]),
    (import_, 2),
    (audit, 1),
    (cancel_ready, (State.READY, TOLD_ONCE)),
    (cancel_delayed, (State.DELAYED, TOLD_ONCE)),
    (leave_cancelled, TOLD_ONCE),
    (reclaim_cancelled, TOLD_ONCE),
    (tries, {"handler": 1}),
    (output, (["abc"], ["line"])),
    (claim, (Claim.MINE, Claim.OTHERS)),
    (done, Claim.DONE),
    (release, Claim.MINE),
    (schedule_ended, 1),
    (schedule_write, True),
]


@pytest.mark.parametrize(("call", "expected"), CASES, ids=[call.__name__ for call, _ in CASES])
def test_a_call_whose_reply_was_lost(caller: Caller, call: Callable[[Caller], Any], expected: Any) -> None:
    assert call(caller) == expected
