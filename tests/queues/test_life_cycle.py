"""A job's life against a model: whatever happens in whatever order, no job is lost, doubled or in two places."""

from __future__ import annotations

import time
import uuid

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fourlane import codec, job
from fourlane.errors import JobNotFound
from fourlane.job import Record, State
from fourlane.outcome import Back, Cancel, Dead, Outcome, Postpone, Retry
from fourlane.queues import browse, control, dead_letters
from fourlane.queues.records import write_record
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.store import Delayed, Store
from fourlane.queues.turn import Ask, Turn

HOUR_MS = 3_600_000
WORKERS = ("ada", "grace")
RECORD = write_record(Record(attempts=1))


ENDS: list[tuple[Outcome | None, State]] = [
    (None, State.UNKNOWN),
    (Retry(HOUR_MS, RECORD, ""), State.DELAYED),
    (Back(), State.READY),
    (Postpone(HOUR_MS), State.DELAYED),
    (Cancel(), State.UNKNOWN),
    (Dead("error", "", RECORD), State.DEAD),
]


class Life(RuleBasedStateMachine):
    """Two workers and one producer on one service, driven by hand."""

    url = ""
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(Connector(client_of(self.url)), namespace=f"life{uuid.uuid4().hex[:12]}", crash_limit=2)
        self.link = self.store.connector.open(b"")
        self.state: dict[str, State] = {}
        self.holder: dict[str, tuple[str, str]] = {}
        self.crashes: dict[str, int] = {}

    def teardown(self) -> None:
        client = self.store.connector.client
        for key in client.scan_iter(f"{self.store.namespace}:*", count=1000):
            client.delete(key)
        self.link.close()
        self.store.connector.close()

    def turn(self, worker: str, want: int = 0, **settled: object) -> Turn:
        held = sum(1 for name, _ in self.holder.values() if name == worker) if want else 0
        tiers = "0123" if want else ""
        ask = Ask(want, tiers, held=held, beat=True, silence_ms=HOUR_MS, idle_silence_ms=HOUR_MS)
        turn = self.store.turn(self.link, "s", worker, ask, **settled)  # type: ignore[arg-type]
        assert not turn.lost
        return turn

    @rule(target=jobs, tier=st.integers(0, 3), delayed=st.booleans())
    def accept(self, tier: int, delayed: bool) -> str:
        job_id = job.new_id(tier, int(time.time() * 1000))
        body = codec.encode("t", [job_id])
        if delayed:
            self.store.delay("s", [Delayed(job_id, body, HOUR_MS)])
        else:
            self.store.enqueue("s", tier, (job_id, body))
            self.store.enqueue("s", tier, (job_id, body))  # the same call once more, as after a lost reply
        self.state[job_id] = State.DELAYED if delayed else State.READY
        return job_id

    @rule(worker=st.sampled_from(WORKERS), want=st.integers(1, 5))
    def lease(self, worker: str, want: int) -> None:
        turn = self.turn(worker, want)
        ready = sorted(i for i, state in self.state.items() if state is State.READY)
        # Cancelled ones that are passed over take places; then the turn says that there may be more.
        assert len(turn.jobs) == min(want, len(ready)) or (turn.more and State.CANCELLED in self.state.values())
        ids = [job.id_of_entry(leased.entry) for leased in turn.jobs]
        assert set(ids) <= set(ready)
        assert [i[0] for i in ids] == [i[0] for i in ready][: len(ids)], "the tiers are strict"
        for job_id, leased in zip(ids, turn.jobs, strict=True):
            assert codec.decode(leased.body).args == [job_id]
            self.state[job_id] = State.RUNNING
            self.holder[job_id] = (worker, leased.entry)

    @precondition(lambda self: self.holder)
    @rule(data=st.data(), end=st.sampled_from(ENDS), late=st.booleans())
    def settle(self, data: st.DataObject, end: tuple[Outcome | None, State], late: bool) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.holder)))
        worker, entry = self.holder[job_id]
        if late:  # somebody who does not hold it
            worker = next(name for name in WORKERS if name != worker)
        outcome, state = end
        turn = self.turn(worker, done=[entry] if outcome is None else [], others=[(entry, outcome)] if outcome else [])
        assert turn.refused == ([entry] if late else [])
        if not late:
            self.state[job_id] = state
            del self.holder[job_id]

    @precondition(lambda self: self.holder)
    @rule(worker=st.sampled_from(WORKERS), begun=st.booleans())
    def die(self, worker: str, begun: bool) -> None:
        mine = {i: entry for i, (name, entry) in self.holder.items() if name == worker}
        self.store.reclaim("s", worker, "died", begun=list(mine.values()) if begun else [])
        for job_id in mine:
            self.crashes[job_id] = self.crashes.get(job_id, 0) + begun
            # Of several one at most is guilty, and none is taken for it.
            most = 14 if len(mine) > 1 else 2
            poison = begun and self.crashes[job_id] >= most
            self.state[job_id] = State.DEAD if poison else State.READY
            del self.holder[job_id]
        self.forget_jobs_that_tell()

    def forget_jobs_that_tell(self) -> None:
        """The end of a dead letter is told by a job of its own, which is not the model's."""
        keys, command = self.store.service("s"), self.store.connector.command
        for key in keys.ready:
            for entry in command(key, "LRANGE", key, 0, -1):
                if b"ended:" in entry:
                    command(key, "LREM", key, 1, entry)
                    command(key, "HDEL", keys.jobs, job.id_of_entry(entry.decode()))

    @rule(job_id=jobs)
    def replay(self, job_id: str) -> None:
        dead = self.state[job_id] is State.DEAD
        if dead:
            assert dead_letters.replay(self.store, [job_id]) == 1
            self.state[job_id] = State.READY
            self.crashes.pop(job_id, None)

    @rule(job_id=consumes(jobs))
    def cancel(self, job_id: str) -> None:
        if self.state[job_id] is not State.RUNNING:
            assert control.cancel(self.store, job_id) is self.state[job_id]
            ready = self.state[job_id] is State.READY
            self.state[job_id] = State.CANCELLED if ready else State.UNKNOWN

    @invariant()
    def every_ready_job_is_in_its_list_once(self) -> None:
        keys, listed = self.store.service("s"), []
        for key in keys.ready:
            listed += [job.id_of_entry(e.decode()) for e in self.store.connector.command(key, "LRANGE", key, 0, -1)]
        assert len(listed) == len(set(listed))
        waiting = {i for i, state in self.state.items() if state is State.READY}
        assert waiting == {i for i in listed if self.state[i] is not State.CANCELLED}

    @invariant()
    def every_job_is_where_the_model_says(self) -> None:
        for job_id, state in self.state.items():
            try:
                found = browse.job(self.store, job_id).state
            except JobNotFound:
                found = State.UNKNOWN
            # A cancelled job that waited is forgotten when a lease passes over it.
            assert found is state or (state is State.CANCELLED and found is State.UNKNOWN), job_id


@pytest.mark.timeout(240)
def test_life_cycle(redis_url: str) -> None:
    Life.url = redis_url
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
