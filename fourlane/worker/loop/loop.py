"""The worker's loop: one turn after another, for every service that it serves.

1. Listen to what other threads tell.
2. A round: settle what finished and lease what fits, by one script call for each service that has work (rounds.py,
   turning.py). The jobs go to the executor.
3. Sleep: wait for a token in Redis while there is room, for the executor, or for the next moment that was announced: a
   delayed job due, a limit with room again, another worker's silence (sleep.py).
When it is told to stop: stopping.py.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import dramatiq
from dramatiq.middleware import AsyncIO

from fourlane.names import Queue
from fourlane.outcome import PLAIN, Done, Outcome
from fourlane.queues import ended
from fourlane.queues.broker import RedisBroker
from fourlane.telling import tell
from fourlane.worker.loop.apart import Apart
from fourlane.worker.loop.appetite import Appetite
from fourlane.worker.loop.leases import Leases
from fourlane.worker.loop.promotions import Promotions
from fourlane.worker.loop.recovery import Recovery
from fourlane.worker.loop.rounds import Rounds
from fourlane.worker.loop.services import Services
from fourlane.worker.loop.sleep import Sleep
from fourlane.worker.loop.stopping import Stopping
from fourlane.worker.loop.tokens import Tokens
from fourlane.worker.loop.turning import Turns
from fourlane.worker.loop.waits import Waits
from fourlane.worker.loop.watching import Watching
from fourlane.worker.run.executor import Executor
from fourlane.worker.run.run import Run
from fourlane.worker.table import Table

__all__ = ["Loop"]

log = logging.getLogger("fourlane.worker")


class Loop:
    """Runs in the main thread of a worker process."""

    def __init__(
        self,
        broker: RedisBroker,
        queues: Iterable[Queue],
        *,
        name: str,
        slots: int = 8,
        concurrency: int = 1000,
        grace_seconds: float = 25.0,
        table: Table | None = None,
    ) -> None:
        store = broker.store
        self.broker = broker
        self.services = services = Services(store, queues, worker=name, table=table)
        self.waits = waits = Waits(store, services)
        self.executor = executor = Executor(
            broker, self, slots=slots, concurrency=concurrency, table=table, worker=name, on_low=self.wake,
        )  # fmt: skip
        apart = self._apart = Apart(executor, store.crash_limit, table=table)
        appetite = self._appetite = Appetite(executor, lambda: self.stopping or apart.wants_room())
        recovery = self.recovery = Recovery(store, services, waits, in_haste=lambda: self._stopping.at_once)
        watching = Watching(store, services, waits, recovery)
        leases = self._leases = Leases(store, services, executor, apart=apart, waits=waits, recovery=recovery)
        turns = self._turns = Turns(
            store, services, executor, appetite=appetite, apart=apart, recovery=recovery, leases=leases,
            watching=watching,
        )  # fmt: skip
        tokens = Tokens(store, services, turns=turns, appetite=appetite, recovery=recovery, watching=watching)
        promotions = self._promotions = Promotions(store, services, appetite, recovery)
        self.rounds = Rounds(
            services, turns=turns, tokens=tokens, promotions=promotions, watching=watching, appetite=appetite,
            apart=apart,
        )  # fmt: skip
        self._sleep = Sleep(
            services, executor, waits, turns=turns, tokens=tokens, promotions=promotions, appetite=appetite,
            apart=apart, recovery=recovery,
        )  # fmt: skip
        self._stopping = Stopping(
            store, services, executor, turns=turns, apart=apart, waits=waits, grace_seconds=grace_seconds
        )
        self._told: deque[Callable[[], None]] = deque()
        self._tells_shutdown = False

    def run(self) -> None:
        self.executor.boot()
        self.services.publish_names()
        while not self.stopping:
            self._listen()
            self._sleep.drop_overdue()
            self.rounds.run()
            if not self.stopping:
                self._sleep.wait()
        self._stop()

    def _listen(self) -> None:
        while self._told:
            self._told.popleft()()

    def _stop(self) -> None:
        self._stopping.give_back()
        if self._tells_shutdown:
            self.broker.emit_before("worker_shutdown", self)
        self._stopping.let_end(self._listen)
        self._stopping.leave()
        self.executor.close()
        tell.closing()

    @property
    def stopping(self) -> bool:
        return self._stopping.asked

    @property
    def turned_at(self) -> float:
        """When the last turn began that Redis answered; 0 before."""
        return self._turns.turned_at

    def grace_left(self) -> float:
        """Seconds of the grace that are left after ``run``; less than 0 when it is over."""
        return self._stopping.grace_ends_at - time.monotonic()

    def tell_boot(self) -> None:
        """Middleware hears that the worker boots, and later that it stops. Call it before ``run``."""
        for hook in self.broker.hooks("before_worker_boot"):
            own = getattr(hook, "__func__", None) is AsyncIO.before_worker_boot
            self.broker.call_hooks([self.executor.provide_loop if own else hook], (self,), {})
        self._tells_shutdown = True

    # From other threads and from signals --------------------------------------------------------------------

    def finished(self, run: Run, outcome: Outcome) -> None:
        """A run of the executor's ended so."""
        run.ended_at = time.monotonic()
        if run.gated:
            run.leave_gate()
        error = None if outcome is PLAIN else run.error  # which the turn lets go of
        run.service.finished.append((run, outcome))
        self._appetite.finished_jobs += 1
        if type(outcome) is not Done:
            tell.ended(run, outcome, error)
        elif "done" in tell.heard:
            tell.done(run)

    def mislaid(self) -> None:
        """A job may be in no place of the executor's any more."""
        for service in self.services:
            if service.held:
                service.fall_out_of_step()
        self.wake()

    def wake(self) -> None:
        """End the wait."""
        self.executor.waiting = False
        self.waits.wake()

    def stop(self) -> None:
        """Stop leasing, let what runs end within the grace, give the rest back. A second call stops at once."""
        self._stopping.ask()
        self.wake()

    def told_cancelled(self, job_ids: set[str]) -> None:
        self._hear(lambda: self._cancel(job_ids))

    def told_lost(self, service: str, name: str) -> None:
        """The supervisor's beat says that this lease name holds nothing any more."""
        self._hear(lambda: self._leases.look_whether_lost(service, name))

    def told_declared(self, actor: dramatiq.Actor[Any, Any]) -> None:
        """Its service is to be served."""
        if actor.actor_name != ended.TASK:  # that runs in each service
            service = self.broker.queue_of(actor.queue_name).service
            self._hear(lambda: self._serve(service))

    def told_unknown(self, service: str, tasks: list[str]) -> None:
        """Others parked jobs of these tasks, which this worker knows."""
        self._hear(lambda: self._promotions.begin(service, tasks))

    def _hear(self, told: Callable[[], None]) -> None:
        """The loop's own thread does it."""
        self._told.append(told)
        self.wake()

    def _cancel(self, job_ids: set[str]) -> None:
        self.executor.cancel(job_ids)
        self._apart.cancel(job_ids)

    def _serve(self, name: str) -> None:
        """One more service."""
        if not self.stopping and self.services.named(name) is None:
            self.waits.add(self.services.add(name))
            tell.serving(name)
