"""A task holds no more than its share of the slots, and those behind its jobs pass."""

from __future__ import annotations

import asyncio
import threading
import time
from queue import SimpleQueue
from typing import Any

import pytest

import fourlane
from fourlane.outcome import PLAIN, Outcome, Postpone
from fourlane.queues.broker import RedisBroker
from fourlane.queues.contact import Contact
from fourlane.queues.turn import Leased
from fourlane.worker.loop.service import Service
from fourlane.worker.run.executor import Executor
from fourlane.worker.run.run import Run
from tests.servers import eventually
from tests.worker.conftest import RunWorker
from tests.worker.gates import Gate, declare
from tests.worker.gates import gate as gate


def test_a_task_holds_no_more_than_its_share_of_the_slots(
    broker: RedisBroker, run_worker: RunWorker, gate: Gate
) -> None:
    slow = declare(gate, "slow", "P0", share=0.5)
    ran: list[str] = []
    quick = fourlane.task(name="quick", service="other", tier="P2")(lambda: ran.append("quick"))
    run_worker(broker, "slow", "other", slots=4)
    slow.send_many([["slow"]] * 20)
    eventually(lambda: len(gate.begun) == 2)
    quick.send_many([[]] * 50)
    eventually(lambda: len(ran) == 50)
    assert gate.begun == ["slow"] * 2
    gate.let.release(20)
    eventually(lambda: len(gate.begun) == 20)


def test_jobs_over_the_share_let_those_behind_them_pass(broker: RedisBroker, run_worker: RunWorker, gate: Gate) -> None:
    """It shares its queue with another task; and no job is turned over and over."""
    slow = declare(gate, "mixed", "P1", share=0.25)
    ran: list[str] = []
    beside = fourlane.task(name="beside", service="mixed", tier="P1")(lambda: ran.append("beside"))
    loop = run_worker(broker, "mixed", "other", slots=4)
    slow.send_many([["slow"]] * 9)
    beside.send()
    eventually(lambda: ran == ["beside"])
    asks = loop.rounds.choices
    time.sleep(0.3)
    assert loop.rounds.choices - asks < 30
    for number in range(2, 10):
        assert gate.step() == "slow"
        assert len(gate.begun) == number
    gate.let.release()
    eventually(lambda: not broker.client.hlen(broker.store.service("mixed").jobs))


def test_a_long_backlog_over_the_share_does_not_hold_up_its_queue(
    broker: RedisBroker, run_worker: RunWorker, gate: Gate
) -> None:
    """Nor what waits in a lower tier, while the backlog lets others pass."""
    slow = declare(gate, "crowd", "P1", share=0.25)
    ran: list[str] = []
    beside = fourlane.task(name="beside", service="crowd", tier="P1")(lambda: ran.append("beside"))
    below = fourlane.task(name="below", service="other", tier="P2")(lambda: ran.append("below"))
    run_worker(broker, "crowd", "other", slots=4)
    slow.send_many([["slow"]] * 1_500)
    beside.send()
    eventually(lambda: gate.begun)
    below.send()
    eventually(lambda: ran)
    assert ran == ["below"]
    eventually(lambda: ran == ["below", "beside"])
    assert gate.begun == ["slow"]


class Owner:
    """Hears what an executor tells of its runs."""

    def __init__(self) -> None:
        self.ended: SimpleQueue[Outcome] = SimpleQueue()
        self.woken = threading.Event()

    def finished(self, run: Run, outcome: Outcome) -> None:
        if run.gated:
            run.leave_gate()
        self.ended.put(outcome)

    def mislaid(self) -> None: ...


@pytest.mark.parametrize("is_async", [False, True])
def test_many_jobs_over_the_share_are_told_at_once(broker: RedisBroker, is_async: bool) -> None:
    """The loop is woken for each that has to wait, as it is for one that ended; and no place is lost by it."""
    free = threading.Event()

    def plain() -> None:
        assert free.wait(30)

    async def later() -> None:
        while not free.is_set():
            await asyncio.sleep(0.01)

    fourlane.task(name="slow", share=0.5)(later if is_async else plain)
    owner = Owner()
    executor = Executor(broker, owner, slots=2, concurrency=2, on_low=owner.woken.set)
    executor.boot()
    service = Service("default", 0, "0123", "w", Contact(0.0))
    try:
        for round_ in range(3):
            free.clear()
            executor.start(service, [Leased(f"1a{round_}", b'["slow"]', b"", 0)])
            eventually(lambda: len(executor.running()) == 1 and executor.running()[0].started)
            for number in range(3):
                owner.woken.clear()
                executor.waiting = True
                executor.start(service, [Leased(f"1b{round_}{number}", b'["slow"]', b"", 0)])
                assert owner.woken.wait(30)
                assert isinstance(owner.ended.get(timeout=5), Postpone)
            free.set()
            assert owner.ended.get(timeout=5) == PLAIN
            eventually(lambda: executor.running() == [])
    finally:
        free.set()
        executor.close()


@pytest.mark.parametrize("share", [0, -0.5, 1.5, "half", True])
def test_a_share_is_checked_where_it_is_declared(broker: RedisBroker, share: Any) -> None:
    with pytest.raises(ValueError, match="share"):
        fourlane.task(name="wrong", share=share)(lambda: None)
