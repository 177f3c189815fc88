"""Runs jobs: plain functions in threads, ``async def`` on one event loop. It knows nothing of Redis.

1. load: a leased job's body is read and its task's plan found (load.py); without that it is refused (refuse.py).
2. admit: it gets a place of its task's share (admission.py, gate.py).
3. begin: not if its lease is lost or the worker stops; its row, its options, its time limit (begin.py).
4. before: it is unsealed, has not expired (expiry.py), and middleware hears of it.
5. run: in a thread (slots.py) or on the event loop (coroutines.py). A function that returns something to await, and is
   not ``async def`` itself, goes on on the loop and frees its thread. So does ``async def`` where middleware is told of
   jobs: that is called in threads, before and after. Where it may keep something by the thread, the thread waits.
   Meanwhile it may be interrupted (soft_timeout.py, cancelling.py).
6. conclude: what its end means (decide.py), and who hears of it (conclude.py).
7. finish: the owner is told (finish.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from itertools import chain
from queue import SimpleQueue
from typing import Any, Final

import dramatiq

from fourlane.queues import ended
from fourlane.queues.broker import RedisBroker
from fourlane.queues.turn import Leased
from fourlane.tasks.ended import declare as declare_ended
from fourlane.worker.run import cancelling
from fourlane.worker.run.admission import Admission
from fourlane.worker.run.begin import Begin, Halt
from fourlane.worker.run.conclude import Conclusions
from fourlane.worker.run.coroutines import Coroutines
from fourlane.worker.run.finish import Finish, Owner
from fourlane.worker.run.histories import Histories
from fourlane.worker.run.load import Load
from fourlane.worker.run.plan import Plan
from fourlane.worker.run.refill import Refill
from fourlane.worker.run.refuse import Refusals
from fourlane.worker.run.rows import Rows
from fourlane.worker.run.run import Run
from fourlane.worker.run.slots import Slots
from fourlane.worker.run.soft_timeout import SoftTimeouts
from fourlane.worker.table import Table

__all__ = ["Executor", "Owner"]

log = logging.getLogger("fourlane.worker")

_LAST_STEP_SECONDS: Final = 0.5  # for what ends just as the grace does
_LOOK_AGAIN_SECONDS: Final = 0.005
_HISTORIES_SECONDS: Final = 2.0


class Executor:
    """What the worker's loop gives jobs to, and asks and tells of those that are here."""

    def __init__(
        self,
        broker: RedisBroker,
        owner: Owner,
        *,
        slots: int,
        concurrency: int,
        table: Table | None = None,
        worker: str = "",
        on_low: Callable[[], None],
    ) -> None:
        self.broker = broker
        self.slots = slots
        self.concurrency = concurrency
        self.stopping = False
        self.end_process: Callable[[], None] = _end_process
        self._refill = Refill(on_low)
        self._fault = ""
        self._halt = halt = Halt()
        self._conclusions = Conclusions(broker, worker)
        self._histories = Histories(broker)
        self._admission = admission = Admission(owner, halt, slots)
        rows = Rows(broker, table, slots=slots, concurrency=concurrency)
        begin = Begin(broker, rows, halt)
        finish = Finish(owner, self._conclusions, self._histories)
        self._coroutines = Coroutines(
            owner,
            concurrency=concurrency,
            rows=rows,
            admission=admission,
            begin=begin,
            finish=finish,
            refill=self._refill,
            tellers=slots,
            cannot_go_on=self._cannot_go_on,
        )
        self._slots = Slots(
            broker,
            slots,
            rows=rows,
            admission=admission,
            begin=begin,
            finish=finish,
            coroutines=self._coroutines,
            refill=self._refill,
            mislaid=owner.mislaid,
        )
        self._load = Load(
            broker,
            Refusals(broker, owner, self._conclusions),
            slots=slots,
            concurrency=concurrency,
            on_free=self._coroutines.place_is_free,
            prepare=self._prepare,
        )
        self._timeouts = SoftTimeouts(self._limited, self._interrupt, self._ping)

    # Start and stop -----------------------------------------------------------------------------------------

    def boot(self) -> None:
        load = self._load
        for actor in self.broker.actors.values():
            load.plan(actor)
        declare_ended(self.broker, is_async=load.has_async and not load.has_plain)
        load.plan(self.broker.actors[ended.TASK])
        if load.has_async:
            self._coroutines.start_loop()
        if load.has_plain or not load.has_async:
            self._slots.start()
        self._timeouts.start()

    def _prepare(self, plan: Plan) -> None:
        """For the jobs of a task that was declared since the start."""
        if plan.is_async:
            self._coroutines.start_loop()
        elif not self.threads:
            self._slots.start()

    def provide_loop(self, broker: dramatiq.Broker, worker: Any) -> None:
        """In place of what ``AsyncIO`` does before a worker boots: its loop is the one on which jobs run."""
        self._coroutines.keeper.provide()

    def close(self) -> None:
        self.stopping = True
        self._timeouts.stop()
        self._slots.close()
        self._conclusions.close()
        self._coroutines.close()
        self._histories.close(timeout_seconds=_HISTORIES_SECONDS)

    # Jobs come ----------------------------------------------------------------------------------------------

    def start(self, service: Any, jobs: list[Leased]) -> int:
        """Take leased jobs; returns how many are ``async def``. Those that cannot run at all are concluded here."""
        coroutines = self._load.load(service, jobs, self.backlog.put)
        if coroutines:
            self._coroutines.spawn(coroutines)
        return len(coroutines)

    def is_async(self, leased: Leased) -> bool:
        return self._load.is_async(leased)

    def take_back(self) -> list[Run]:
        """The jobs that no thread has begun, to be given back."""
        return self._slots.take_back()

    @property
    def waiting(self) -> bool:
        """The owner's to set: it waits until no more than ``low`` jobs are in the backlog, or a coroutine has ended."""
        return self._refill.waiting

    @waiting.setter
    def waiting(self, waiting: bool) -> None:
        self._refill.waiting = waiting

    @property
    def low(self) -> int:
        return self._refill.low

    @low.setter
    def low(self, low: int) -> None:
        self._refill.low = low

    # What is here -------------------------------------------------------------------------------------------

    @property
    def backlog(self) -> SimpleQueue[Run | None]:
        return self._slots.backlog

    @property
    def busy(self) -> list[Run | None]:
        """What each slot runs."""
        return self._slots.busy

    @property
    def threads(self) -> list[threading.Thread]:
        """The slots' own; none as long as no plain function is known."""
        return self._slots.threads

    @property
    def async_runs(self) -> dict[int, Run]:
        """Those on the event loop."""
        return self._coroutines.runs

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        return self._coroutines.keeper.loop

    @property
    def loop_thread(self) -> int:
        return self._coroutines.keeper.thread

    @property
    def has_async(self) -> bool:
        return self._load.has_async or self.loop is not None

    @property
    def crowded_at(self) -> float:
        """When a job last found no place of its task's share."""
        return self._admission.crowded_at

    def free(self) -> tuple[int, int]:
        """Free threads, and free places on the event loop."""
        threads = self.slots - self.running_threads() if self.threads else 0
        return threads, self.concurrency - len(self.async_runs) if self.has_async else 0

    def running_threads(self) -> int:
        return self._slots.running()

    def running(self) -> list[Run]:
        # By identity: one that goes over from a thread to the loop is for a moment in both.
        threads = {id(run): run for run in self.busy if run is not None}
        return list((threads | self.async_runs).values())

    def in_hand(self) -> list[Run]:
        """Runs that are no longer in the backlog: they run, or wait for a place of their task."""
        return [*(run for run in self._admission.at_gate if run is not None), *self.running()]

    def healthy(self) -> str:
        """What keeps jobs from running or from their time limits; empty when nothing does."""
        if self._fault:
            return self._fault
        slots = "" if self.stopping else self._slots.fault()
        return self._timeouts.fault() or slots or self._coroutines.keeper.fault(runs=bool(self.async_runs))

    def _cannot_go_on(self, fault: str) -> None:
        """The process would linger with its jobs: it ends instead, and its supervisor starts another."""
        self._fault = fault
        log.critical("The worker's process ends: %s.", fault)
        self.end_process()

    # What runs is told --------------------------------------------------------------------------------------

    def cancel(self, job_ids: AbstractSet[str]) -> None:
        """Tell running jobs that they were cancelled, and interrupt them: those told of a stop before too."""
        cancelling.cancel(self.running(), job_ids, self._interrupt)

    def lease_lost(self, runs: list[Run]) -> None:
        """Tell running jobs that they run elsewhere by now, and interrupt them: their end does not count any more."""
        cancelling.tell_lost(runs, self._halt, self._interrupt)

    def tell_shutdown(self) -> None:
        """Tell running jobs that the worker stops; interrupt those that asked for it."""
        self._halt.stop()
        cancelling.tell_shutdown(self.running(), self._interrupt)

    def abandon(self) -> list[Run]:
        """Leave what has not ended, and tell nothing of it from now on. What has just ended is told first."""
        self._coroutines.abandon()
        self._slots.abandon()
        deadline = time.monotonic() + _LAST_STEP_SECONDS
        while any(not (run.abandoned or run.ended_at) for run in self.running()) and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_SECONDS)
        left = self.running()
        for run in left:
            run.abandoned = True
        return [run for run in left if not run.ended_at]

    def let_clean_up(self, deadline: float) -> None:
        """Wait for what coroutines that were cut have yet to do, as to book what they paid for."""
        while self._coroutines.are_cleaning_up() and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_SECONDS)

    def _interrupt(self, run: Run, kind: type[BaseException]) -> None:
        if run.plan.is_async or not self._slots.interrupt(run, kind):
            self._coroutines.interrupt(run, kind)

    def _limited(self) -> Iterator[Run]:
        """All that may have a time limit."""
        return chain((run for run in list(self.busy) if run is not None), list(self.async_runs.values()))

    def _ping(self, now: float) -> None:
        if self.async_runs:
            self._coroutines.keeper.ping(now)


def _end_process() -> None:
    os._exit(1)
