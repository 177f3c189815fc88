"""A job that was sent, for who sent it: its state, its result, its output; and to cancel it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import dramatiq

from fourlane import job
from fourlane.errors import JobCancelled, JobFailed, ResultNotKept, ResultTimeout
from fourlane.names import Queue
from fourlane.queues import ended
from fourlane.queues.broker import RedisBroker
from fourlane.queues.results import Results, value_of
from fourlane.queues.store import Store
from fourlane.reasons import ERROR

if TYPE_CHECKING:
    from fourlane.queues.output import Piece, Progress

__all__ = ["EnqueuedJob"]

R = TypeVar("R")
_FIRST_LOOK_SECONDS = 0.25  # how long to wait for a result before asking whether there is one to come
_LOOK_SECONDS = 1.0
_CALLBACKS = ("on_failure", "on_retry_exhausted")


class EnqueuedJob(Generic[R]):
    """A job that Redis has accepted."""

    __slots__ = ("_accepted", "_is_sealed", "_keeps_result", "broker", "id", "queue")

    def __init__(
        self,
        broker: RedisBroker,
        queue: Queue,
        job_id: str,
        *,
        accepted: bool = False,
        keeps_result: bool | None = None,
        is_sealed: bool = False,
    ) -> None:
        """
        Parameters:
          accepted: Redis has it; unless a relay is still to bring it there (docs/outbox.md).
          keeps_result: whether its task and options keep one; None when that is not known here.
          is_sealed: it is known to be encrypted, so that nothing that it left is believed in plain.
        """
        self.broker = broker
        self.queue = queue
        self.id = job_id
        self._accepted = accepted
        self._keeps_result = keeps_result
        self._is_sealed = is_sealed

    @property
    def message_id(self) -> str:
        """The id under dramatiq's name."""
        return self.id

    @property
    def _store(self) -> Store:
        broker: dramatiq.Broker = self.broker
        if not isinstance(broker, RedisBroker):
            raise RuntimeError(f"job {self.id} is a message of a {type(broker).__name__}: Redis knows nothing of it")
        return broker.store

    def _stored_id(self) -> str:
        return job.id_of_message(self.id, self.queue.tier)

    def info(self) -> job.JobInfo:
        """All that is known of it. Raises JobNotFound once it is done and no result is kept."""
        from fourlane.queues import browse

        return browse.job(self._store, self.id, self.queue)

    def status(self) -> job.State:
        """Where it is in its life. ``unknown``: done and no result kept, expired, or never accepted."""
        from fourlane.errors import JobNotFound

        try:
            return self.info().state
        except JobNotFound:
            kept = Results(self._store).look(self.queue.service, self._stored_id())
            return job.State.DONE if ended.is_done(kept) else job.State.UNKNOWN

    def cancel(self) -> job.State:
        """Cancel it; returns the state that it was in. A running job is told through its cancel token."""
        from fourlane.queues import control

        def has_callbacks(name: str) -> bool:
            actor = self.broker.actors.get(name)
            hooks = self.broker.hooks("before_nack", native=False) or self.broker.hooks("after_nack", native=False)
            return actor is None or bool(hooks) or not actor.options.keys().isdisjoint(_CALLBACKS)

        return control.cancel(self._store, self.id, self.queue, has_callbacks=has_callbacks)

    def progress(self) -> Progress | None:
        """How far it said that it is; None when it said nothing within the last hour.

        Raises EncryptionError, UnreadableResult.
        """
        from fourlane.queues.output import read_progress

        return read_progress(self._store, self.queue.service, self._stored_id(), is_sealed=self._is_sealed)

    def log_lines(self) -> list[str]:
        """Its last log lines, up to 200. Raises EncryptionError."""
        from fourlane.queues.output import read_log

        return read_log(self._store, self.queue.service, self._stored_id(), is_sealed=self._is_sealed)

    def stream(self, timeout: float | None = None) -> Iterator[Piece]:
        """What it writes, from the start and as it grows, until it ends.

        A piece with ``restart`` begins the output anew: the job runs again, what came before is void.

        Parameters:
          timeout: seconds without a new piece after which to give up; None waits as long as the job lives.

        Raises:
          ResultTimeout: no new piece came in time.
          EncryptionError, UnreadableResult
        """
        from fourlane.queues.output import read_output

        ended = {job.State.DONE, job.State.DEAD, job.State.CANCELLED, job.State.UNKNOWN}
        return read_output(
            self._store,
            self.queue.service,
            self._stored_id(),
            is_sealed=self._is_sealed,
            ended=lambda: self.status() in ended,
            timeout_seconds=timeout,
        )

    async def astream(self, timeout: float | None = None) -> AsyncIterator[Piece]:
        """As stream, without blocking the event loop."""
        pieces = self.stream(timeout)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece

    def result(self, timeout: float | None = 10.0) -> R:
        """Wait for its result.

        Parameters:
          timeout: seconds; None waits for ever.

        Raises:
          ResultTimeout: none came in time.
          JobFailed: it ended otherwise: it is a dead letter, or was cancelled (JobCancelled). Told at once.
          ResultRefused: it is done, but its result could not be kept; says why.
          ResultNotKept: its task keeps no results (``result_ttl_ms``), or this one's time is over.
          EncryptionError: its key is missing; or it is not what the job left (AlteredCiphertext).
          UnreadableResult: nor does any job leave that.
        """
        if self._keeps_result is False:
            raise ResultNotKept(
                f"job {self.id} keeps no result; declare its task with result_ttl_ms, such as "
                "@task(result_ttl_ms=60_000), or send it with that option"
            )
        results, service, stored = Results(self._store), self.queue.service, self._stored_id()
        deadline = None if timeout is None else time.monotonic() + timeout
        longest = _FIRST_LOOK_SECONDS
        while True:
            left = longest if deadline is None else min(longest, deadline - time.monotonic())
            data = results.wait(service, stored, left)
            if data is None and left > 0:
                self._look_for_end()
                longest = _LOOK_SECONDS
            elif data is not None:
                return cast("R", value_of(stored, data, is_sealed=self._is_sealed))
            else:
                raise ResultTimeout(f"no result of job {self.id} within {timeout:g} s")

    def _look_for_end(self) -> None:
        """Raises what result() tells of a job that is over and left no result."""
        end, reason = Results(self._store).how_ended(self.queue.service, self._stored_id())
        if end == "dead":
            word, _, detail = reason.partition("\n")
            raise JobFailed(detail if word == ERROR and detail else f"{word}: {detail}")
        if end == "cancelled":
            raise JobCancelled(f"job {self.id} was cancelled before it ran")
        if end == "told to end":
            raise JobCancelled(f"job {self.id} was cancelled while it ran, and did not come back")
        if end == "gone" and self._accepted:
            raise ResultNotKept(f"job {self.id} is over and has no result: it keeps none, or its result_ttl_ms is over")

    async def aresult(self, timeout: float | None = 10.0) -> R:
        """As result, without blocking the event loop."""
        return await asyncio.to_thread(self.result, timeout)

    def __repr__(self) -> str:
        broker: dramatiq.Broker = self.broker
        environment = broker.store.environment if isinstance(broker, RedisBroker) else "local"
        return f"EnqueuedJob({self.id!r}, queue={self.queue.name(environment)!r})"
