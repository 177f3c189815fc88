"""Leases against a model: several lease names in several services, whatever they do, lose and repeat in any order.

Each service has the same names, as the services of one worker process have. Time is not awaited: a name falls silent
by a beat that is over already. What a call answers may get lost: then it is repeated, or its caller goes on without.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fourlane import codec, job
from fourlane.job import Record, State
from fourlane.names import Queue, Tier
from fourlane.outcome import Back, Cancel, Dead, Outcome, Postpone, Retry
from fourlane.queues import control
from fourlane.queues.records import write_record
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.store import Delayed, Store
from fourlane.queues.turn import Ask, Turn

HOUR_MS = 3_600_000
OVER_MS = -1_000
"""The silence of a beat that is over when it is told."""
SERVICES = ("mail", "bills")
WORKERS = ("ada", "bob")
RECORD = write_record(Record(attempts=1))

# Where a job is: in exactly one place. "due" is delayed no longer than now; "void" waits and was cancelled.
READY, DUE, DELAYED, HELD, DEAD, VOID, GONE = "ready", "due", "delayed", "held", "dead", "void", "gone"
End: TypeAlias = tuple[Outcome | None, str]
ENDS: list[End] = [
    (None, GONE),
    (None, GONE),
    (None, GONE),
    (Retry(0, RECORD, ""), DUE),
    (Retry(HOUR_MS, RECORD, ""), DELAYED),
    (Back(), READY),
    (Postpone(HOUR_MS), DELAYED),
    (Cancel(), GONE),
    (Dead("error", "", RECORD), DEAD),
]
STATES = {READY: State.READY, DUE: State.DELAYED, DELAYED: State.DELAYED, HELD: State.RUNNING, DEAD: State.DEAD}
STATES |= {VOID: State.CANCELLED, GONE: State.UNKNOWN}

services = st.sampled_from(SERVICES)
workers = st.sampled_from(WORKERS)
places = st.sampled_from([READY, READY, DUE, DELAYED])
answers = st.sampled_from(["heard", "heard", "lost", "repeated"])
ends = st.sampled_from(ENDS)


@dataclass
class Job:
    """One job as it should be."""

    service: str
    tier: int
    place: str
    holder: str = ""
    marked: bool = False
    """Cancelled while it ran, and nobody has heeded it yet."""


@dataclass
class Side:
    """What a worker knows of itself in one service: it may be wrong, for answers get lost."""

    worker: str
    epoch: int = 0
    believes: dict[str, str] = field(default_factory=dict)
    """The entries of the jobs that it believes to hold, by id."""

    @property
    def name(self) -> str:
        return f"{self.worker}.{self.epoch}"

    def begin_anew(self) -> None:
        """It was told that its leases are lost."""
        self.epoch += 1
        self.believes.clear()


@dataclass
class Raw:
    """The keys of one service as they are."""

    ready: list[str]
    delayed: list[str]
    leased: dict[str, list[str]]
    dead: list[str]
    bodies: dict[str, str]
    beside: set[str]
    marks: set[str]
    names: dict[str, float]
    now_ms: float


class Leases(RuleBasedStateMachine):
    """Two workers and a producer on two services, driven by hand."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(
            Connector(client_of(self.url)), namespace=f"leases{uuid.uuid4().hex[:12]}", crash_limit=10**6
        )
        self.link = self.store.connector.open(b"")
        self.client: Any = redis.Redis.from_url(self.url, decode_responses=True)
        self.jobs: dict[str, Job] = {}
        self.sides = {(service, worker): Side(worker) for service in SERVICES for worker in WORKERS}
        self.names: dict[str, dict[str, bool]] = {service: {} for service in SERVICES}
        """The names that count as workers, and whether they beat within their silence."""

    def teardown(self) -> None:
        for key in self.client.scan_iter(f"{self.store.namespace}:*", count=1000):
            self.client.delete(key)
        self.client.close()
        self.link.close()
        self.store.connector.close()

    # The calls: what the store takes is said here and nowhere else ---------------------------------------------

    def call_turn(self, service: str, side: Side, *, look: bool = False, want: int = 0, **settled: Any) -> Turn:
        ended = [*settled.get("done", ()), *(entry for entry, _ in settled.get("others", ()))]
        held = set(side.believes.values()) - set(ended)
        ask = Ask(
            want, "0123" if want else "", held=len(held), beat=True, look=look, ages=look,
            silence_ms=HOUR_MS, idle_silence_ms=HOUR_MS,
        )  # fmt: skip
        return self.store.turn(self.link, service, side.name, ask, **settled)

    def call_beat(self, service: str, names: Sequence[str], silence_ms: int) -> tuple[set[str], set[str]]:
        told = self.store.beat(self.link, service, names, silence_ms)
        return set(told.lost), set(told.cancelled)

    def call_reclaim(self, service: str, name: str, *, begun: Iterable[str] | None) -> int:
        back, poisoned = self.store.reclaim(service, name, "died", begun=begun)
        assert poisoned == []
        return back

    # Producers -------------------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        """Both workers are in the middle of something."""
        for service, worker in self.sides:
            for tier in (1, 2):
                self._accept(service, tier, READY, "heard")
            self._lease(service, worker, 1, True, "heard")

    @rule(service=services, tiers=st.lists(st.integers(0, 3), min_size=1, max_size=3), place=places, answer=answers)
    def accept(self, service: str, tiers: list[int], place: str, answer: str) -> None:
        for tier in tiers:
            self._accept(service, tier, place, answer)

    def _accept(self, service: str, tier: int, place: str, answer: str) -> None:
        job_id = f"{tier}{len(self.jobs):013d}"  # a random one would make no two runs alike
        body = codec.encode("t", [job_id])
        for _ in range(2 if answer == "repeated" else 1):
            if place == READY:
                self.store.enqueue(service, tier, (job_id, body))
            else:
                self.store.delay(service, [Delayed(job_id, body, 0 if place == DUE else HOUR_MS)])
        self.jobs[job_id] = Job(service, tier, place)

    @rule(data=st.data(), running=st.booleans(), answer=answers)
    def cancel(self, data: st.DataObject, running: bool, answer: str) -> None:
        held = [i for i, known in self.jobs.items() if known.place == HELD]
        job_id = data.draw(st.sampled_from(sorted(held if running and held else self.jobs)))
        known = self.jobs[job_id]
        for _ in range(2 if answer == "repeated" else 1):
            said = control.cancel(self.store, job_id, Queue(known.service, Tier(known.tier)))
            # What waited is forgotten when a lease passes over it, which the model does not follow.
            assert said is STATES[known.place] or (known.place == VOID and said is State.UNKNOWN)
            if known.place == HELD:
                known.marked = True
            else:
                known.place = VOID if known.place in (READY, VOID) else GONE

    # Workers ---------------------------------------------------------------------------------------------------

    @rule(service=services, worker=workers, want=st.integers(0, 5), look=st.booleans(), answer=answers)
    def lease(self, service: str, worker: str, want: int, look: bool, answer: str) -> None:
        self._lease(service, worker, want, look, answer)

    def _lease(self, service: str, worker: str, want: int, look: bool, answer: str) -> None:
        """Also a look around when ``look``. Whose answer gets lost asks again, and knows nothing of the first jobs."""
        side = self.sides[service, worker]
        for heard in [False, True] if answer == "repeated" else [answer == "heard"]:
            waits = self.in_place(service, READY, *([DUE] if look else []))
            before = set(self.held_by(service, side.name))
            turn = self.call_turn(service, side, look=look, want=want)
            if self.has_lost(service, side):
                self.learn_lost(service, side, turn, heard)
                return
            assert not turn.lost
            self.names[service][side.name] = True
            if look:
                self.check_look(service, side, turn)
            self.take_leases(service, side, turn, waits, want)
            taken = [job.id_of_entry(leased.entry) for leased in turn.jobs]
            assert set(self.held_by(service, side.name)) == before | set(taken)
            if heard:
                side.believes |= dict(zip(taken, (leased.entry for leased in turn.jobs), strict=True))

    def check_look(self, service: str, side: Side, turn: Turn) -> None:
        silent = {name for name, alive in self.names[service].items() if not alive and name != side.name}
        assert set(turn.expired) == silent, "those of this service that fell silent, and nobody else"
        for known in self.jobs.values():
            if (known.service, known.place) == (service, DUE):
                known.place = READY

    def take_leases(self, service: str, side: Side, turn: Turn, waits: set[str], want: int) -> None:
        taken = [job.id_of_entry(leased.entry) for leased in turn.jobs]
        assert set(taken) <= waits
        # Those that were cancelled while they waited are passed over, and take places.
        assert len(taken) == min(want, len(waits)) or self.in_place(service, VOID)
        assert [i[0] for i in taken] == sorted(i[0] for i in waits)[: len(taken)], "the tiers are strict"
        for job_id, leased in zip(taken, turn.jobs, strict=True):
            assert codec.decode(leased.body).args == [job_id]
            self.jobs[job_id].place, self.jobs[job_id].holder = HELD, side.name

    @precondition(lambda self: any(side.believes for side in self.sides.values()))
    @rule(data=st.data(), end=ends, answer=answers)
    def settle(self, data: st.DataObject, end: End, answer: str) -> None:
        service, worker = data.draw(st.sampled_from(sorted(k for k, side in self.sides.items() if side.believes)))
        side = self.sides[service, worker]
        job_id = data.draw(st.sampled_from(sorted(side.believes)))
        self._settle(service, side, job_id, side.believes[job_id], end, answer)

    @precondition(lambda self: any(side.believes for side in self.sides.values()))
    @rule(data=st.data(), end=ends, answer=answers)
    def settle_what_another_holds(self, data: st.DataObject, end: End, answer: str) -> None:
        service, worker = data.draw(st.sampled_from(sorted(k for k, side in self.sides.items() if side.believes)))
        believed = self.sides[service, worker].believes
        job_id = data.draw(st.sampled_from(sorted(believed)))
        side = self.sides[service, data.draw(st.sampled_from([w for w in WORKERS if w != worker]))]
        if job_id not in self.held_by(service, side.name):  # it may have been reclaimed and leased anew
            self._settle(service, side, job_id, believed[job_id], end, answer)

    def _settle(self, service: str, side: Side, job_id: str, entry: str, end: End, answer: str) -> None:
        outcome, place = end
        settled: dict[str, Any] = {"done": [entry]} if outcome is None else {"others": [(entry, outcome)]}
        for heard in [False, True] if answer == "repeated" else [answer == "heard"]:
            lost = self.has_lost(service, side, settling=entry)
            mine = self.held_by(service, side.name).get(job_id) == entry
            turn = self.call_turn(service, side, **settled)
            assert turn.refused == ([] if mine and not lost else [entry]), "only the holder settles, and once"
            if lost:
                self.learn_lost(service, side, turn, heard)
                return
            self.names[service][side.name] = True
            if mine:
                self.end(job_id, place)
            if heard:
                side.believes.pop(job_id, None)

    def end(self, job_id: str, place: str) -> None:
        known = self.jobs[job_id]
        cancelled = known.marked and place != DEAD  # what has failed for good stays to be seen
        known.place, known.holder, known.marked = GONE if cancelled else place, "", False

    @rule(service=services, worker=workers)
    def resynchronise(self, service: str, worker: str) -> None:
        """After lost answers: give back what was never heard of, forget what is not held."""
        side = self.sides[service, worker]
        held = self.store.held(service, side.name)
        assert held == set(self.held_by(service, side.name).values())
        side.believes = {i: entry for i, entry in side.believes.items() if entry in held}
        unknown = [entry for entry in held if entry not in side.believes.values()]
        if unknown:
            turn = self.call_turn(service, side, others=[(entry, Back()) for entry in unknown])
            assert turn.refused == []
            self.names[service][side.name] = True
            for entry in unknown:
                self.end(job.id_of_entry(entry), READY)

    @rule(service=services, chosen=st.sets(workers, min_size=1), answer=answers)
    def beat(self, service: str, chosen: set[str], answer: str) -> None:
        sides = [self.sides[service, worker] for worker in sorted(chosen)]
        names = [side.name for side in sides]
        for heard in [False, True] if answer == "repeated" else [answer == "heard"]:
            lost, cancelled = self.call_beat(service, names, HOUR_MS)
            present = self.names[service]
            assert lost == {name for name in names if name not in present}
            for name in present.keys() & names:
                present[name] = True
            running = {i for i, known in self.jobs.items() if known.service == service and known.marked}
            held = {i for name in names for i in self.held_by(service, name)}
            assert running & held <= cancelled, "a cancel reaches whoever runs the job"
            if heard:
                for side in sides:
                    if side.name in lost and side.believes:
                        side.begin_anew()

    @rule(service=services, worker=workers)
    def fall_silent(self, service: str, worker: str) -> None:
        """Its silence passes."""
        name = self.sides[service, worker].name
        self.call_beat(service, [name], OVER_MS)
        if name in self.names[service]:
            self.names[service][name] = False

    @rule(service=services, worker=workers, answer=answers)
    def reclaim_silent(self, service: str, worker: str, answer: str) -> None:
        name = self.sides[service, worker].name
        for _ in range(2 if answer == "repeated" else 1):
            alive = self.names[service].get(name, False)
            mine = {} if alive else self.held_by(service, name)
            expected = sum(not self.jobs[job_id].marked for job_id in mine)
            assert self.call_reclaim(service, name, begun=None) == expected, "whoever beats in its silence keeps all"
            if not alive:
                self.names[service].pop(name, None)
                self.put_back(mine)

    @precondition(lambda self: any(known.place == HELD for known in self.jobs.values()))
    @rule(service=services, worker=workers, begun=st.booleans(), answer=answers)
    def reclaim_reported(self, service: str, worker: str, begun: bool, answer: str) -> None:
        """Its supervisor saw it die; it comes back under another name."""
        side = self.sides[service, worker]
        for _ in range(2 if answer == "repeated" else 1):
            mine = self.held_by(service, side.name)
            expected = sum(not self.jobs[job_id].marked for job_id in mine)
            assert self.call_reclaim(service, side.name, begun=list(mine.values()) if begun else []) == expected
            self.names[service].pop(side.name, None)
            self.put_back(mine)
        side.begin_anew()

    @precondition(lambda self: any(known.place == HELD for known in self.jobs.values()))
    @rule(service=services, worker=workers, answer=answers)
    def leave(self, service: str, worker: str, answer: str) -> None:
        side = self.sides[service, worker]
        for _ in range(2 if answer == "repeated" else 1):
            mine = self.held_by(service, side.name)
            assert self.store.leave(service, side.name) == len(mine)
            self.names[service].pop(side.name, None)
            self.put_back(mine)
        side.begin_anew()

    # The model -------------------------------------------------------------------------------------------------

    def in_place(self, service: str, *places: str) -> set[str]:
        return {i for i, known in self.jobs.items() if known.service == service and known.place in places}

    def held_by(self, service: str, name: str) -> dict[str, str]:
        """The jobs of this name, with the entries under which it holds them."""
        ids = {i for i in self.in_place(service, HELD) if self.jobs[i].holder == name}
        if not ids:
            return {}
        entries = self.client.smembers(self.store.service(service).leased(name).decode())
        return {job.id_of_entry(entry): entry for entry in entries if job.id_of_entry(entry) in ids}

    def has_lost(self, service: str, side: Side, settling: str = "") -> bool:
        """It believes to hold something besides what it settles, and holds nothing."""
        rest = set(side.believes.values()) - {settling}
        return bool(rest) and not self.held_by(service, side.name)

    def learn_lost(self, service: str, side: Side, turn: Turn, heard: bool) -> None:
        assert turn.lost
        assert turn.jobs == []
        if heard:
            side.begin_anew()

    def put_back(self, ids: Iterable[str]) -> None:
        for job_id in list(ids):
            self.end(job_id, READY)

    # What must always hold ----------------------------------------------------------------------------------------

    @invariant()
    def redis_is_as_the_model_says(self) -> None:
        for service in SERVICES:
            raw = self.read(service)
            model = {i: known for i, known in self.jobs.items() if known.service == service}

            def ids(*places: str, model: dict[str, Job] = model) -> list[str]:
                return sorted(i for i, known in model.items() if known.place in places)

            gone_over = {i for i in ids(VOID) if i not in raw.bodies}
            assert sorted(i for i in raw.ready if raw.bodies.get(i)) == ids(READY)
            assert sorted(raw.delayed) == ids(DUE, DELAYED)
            assert sorted(raw.dead) == ids(DEAD)
            holders = {i: name for name, found in raw.leased.items() for i in found}
            assert holders == {i: model[i].holder for i in ids(HELD)}
            assert sum(map(len, raw.leased.values())) == len(holders), "nobody else holds it too"
            assert sorted(raw.bodies) == sorted(set(ids(READY, DUE, DELAYED, HELD, DEAD, VOID)) - gone_over)
            assert raw.beside <= raw.bodies.keys(), "nothing of a finished job remains"
            # The next beat removes those of jobs that are gone.
            assert raw.marks & raw.bodies.keys() == {i for i, known in model.items() if known.marked}
            assert raw.leased.keys() <= raw.names.keys(), "whoever holds something is watched"
            assert {name: until > raw.now_ms for name, until in raw.names.items()} == self.names[service]

    def read(self, service: str) -> Raw:
        keys = self.store.service(service)
        sides = [self.sides[service, worker] for worker in WORKERS]
        names = [f"{side.worker}.{epoch}" for side in sides for epoch in range(side.epoch + 1)]
        with self.client.pipeline(transaction=True) as pipe:
            for key in keys.ready:
                pipe.lrange(key.decode(), 0, -1)
            for key in keys.dead:
                pipe.zrange(key.decode(), 0, -1)
            for name in names:
                pipe.smembers(keys.leased(name).decode())
            pipe.zrange(keys.delayed.decode(), 0, -1)
            pipe.hgetall(keys.jobs.decode())
            pipe.hkeys(keys.records.decode()).hkeys(keys.crashes.decode()).hkeys(keys.reasons.decode())
            pipe.zrange(keys.cancels.decode(), 0, -1)
            pipe.zrange(keys.workers.decode(), 0, -1, withscores=True)
            pipe.time()
            found = pipe.execute()
        leased = {name: ids for name, ids in zip(names, found[8 : 8 + len(names)], strict=True) if ids}
        delayed, bodies, records, crashes, reasons, marks, workers, now = found[8 + len(names) :]
        return Raw(
            ready=[job.id_of_entry(entry) for entries in found[:4] for entry in entries],
            delayed=[job.id_of_entry(entry) for entry in delayed],
            leased={name: [job.id_of_entry(entry) for entry in entries] for name, entries in leased.items()},
            dead=[i for ids in found[4:8] for i in ids],
            bodies=bodies,
            beside={i.partition("|")[0] for i in (*records, *crashes, *reasons)},
            marks=set(marks),
            names=dict(workers),
            now_ms=now[0] * 1000 + now[1] / 1000,
        )


@pytest.mark.timeout(240)
def test_leases(redis_url: str) -> None:
    Leases.url = redis_url
    run_state_machine_as_test(
        Leases,
        settings=settings(
            max_examples=80, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
