"""One job in this process."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import TYPE_CHECKING, Any, cast

import dramatiq
from dramatiq.broker import MessageProxy

from fourlane import codec, job
from fourlane.queues.journal import Lease, journal_of
from fourlane.queues.messages import message_of
from fourlane.queues.store import Store
from fourlane.queues.turn import Leased
from fourlane.tasks.context import CurrentJob
from fourlane.worker.run.plan import Plan

if TYPE_CHECKING:
    from fourlane.sealing import Seal
    from fourlane.tasks.output import Output
    from fourlane.tasks.recorded import Steps

__all__ = ["Run"]


class Run(MessageProxy):
    """One job in this process. A dramatiq MessageProxy, for middleware sees it as its message."""

    # On the class, so that making a Run costs little: most jobs change few of these.

    # Where it is
    gated = False  # it has one of its task's places
    row = -1  # in the table
    thread = 0
    task: asyncio.Task[Any] | None = None
    on_loop = False  # it went over there from a thread
    awaitable: Any = None  # what its function returned in a slot's thread, for the event loop to await
    goes_on_in: contextvars.Context | None = None  # the one context of its hooks and its coroutine

    # How far it is
    attempt = 1
    started = 0.0
    ended = False  # the function is over: no interrupt may be sent any more
    ended_at = 0.0
    steps_used = False  # its task has asked for its steps
    output_used = False  # or for its output
    trace: Any = None  # what a tracer keeps of it
    seal: Seal | None = None  # of an encrypted job, once its arguments are open

    # What ends it early
    deadline = 0.0
    interrupted: type[BaseException] | None = None
    late_interrupt: type[BaseException] | None = None  # came when its function in a thread was over
    lost = False  # its lease: the job runs elsewhere by now
    abandoned = False  # nobody is told of its end

    # How it ends
    failed = False
    expected = False  # its error
    sent: frozenset[str] = frozenset()  # which of the callbacks
    takes_retry = False  # its middleware is being told of its failure
    enqueued_again: tuple[dramatiq.Message[Any], int | None] | None = None

    _exception: BaseException | None = None  # dramatiq's name of it: middleware reads and sets it
    _built: dramatiq.Message[Any] | None = None
    _steps: Steps | None = None
    _output: Output | None = None

    def __init__(self, service: Any, leased: Leased, envelope: codec.Envelope, plan: Plan) -> None:
        self.service = service
        self.epoch = service.epoch
        self.leased = leased
        self.envelope = envelope
        self.plan = plan

    @property
    def context(self) -> CurrentJob:
        """What the task sees of itself, made when it, a cancel or a stop first needs it."""
        made = self.__dict__.get("_context")
        if made is None:
            job_id = job.message_id_of(job.id_of_entry(self.leased.entry))
            fresh = CurrentJob(job_id, self.plan.name, self.service.name, self.attempt, self.envelope.enqueued_ms)
            options = self.envelope.options
            fresh.tenant = self.tenant
            if "scheduled_for" in options:
                fresh.schedule, fresh.scheduled_for_ms = options.get("schedule", ""), options["scheduled_for"]
            made = self.__dict__.setdefault("_context", fresh)  # two threads may come at once
        return cast("CurrentJob", made)

    @property
    def told_to_end(self) -> str:
        """Why its cancel token was set; empty where it was not."""
        made: CurrentJob | None = self.__dict__.get("_context")
        return "" if made is None else made.cancel_token.reason

    def open(self) -> None:
        """Read the arguments of an encrypted job. Raises EncryptionError, Reject."""
        from fourlane.sealing import Seal, is_bound_to_job, open_job

        stored, strict = job.id_of_entry(self.leased.entry), is_bound_to_job(self.envelope.options)
        self.envelope = open_job(self.envelope, stored, self.plan.encrypt)
        self._built = None  # who looked at it before saw the ciphertext, and no later message of a pipeline
        self.seal = Seal(stored, strict)

    def leave_gate(self) -> None:
        """Give its place back, when it has one."""
        if self.gated and self.plan.gate is not None:
            self.gated = False
            self.plan.gate.leave((self.ended_at or time.monotonic()) - self.started if self.started else 0.0)

    @property
    def error(self) -> BaseException | None:
        """What the function raised, as middleware hears it."""
        return self._exception

    @error.setter
    def error(self, error: BaseException | None) -> None:
        self._exception = error

    def let_go(self) -> None:
        """Of the error: its traceback holds the frames of the job, which hold this run and all that the job had."""
        self._exception = None

    @property
    def message(self) -> dramatiq.Message[Any]:
        """The job as dramatiq has it."""
        return self._message

    @property
    def tenant(self) -> str:
        return str(self.envelope.options.get("tenant") or "")

    @property
    def lease(self) -> Lease:
        """Under which this run may write."""
        return Lease(self.service.name, f"{self.service.worker}.{self.epoch}", self.leased.entry, self.seal)

    @property
    def store(self) -> Store:
        return self.plan.broker.store

    @property
    def steps(self) -> Steps:
        if self._steps is None:
            from fourlane.tasks.recorded import Steps

            self.steps_used = True
            made = Steps(journal_of(self.plan.broker.store), self.lease, self)
            self._steps = self.__dict__.setdefault("_steps", made)
        return self._steps

    @property
    def output(self) -> Output:
        if self._output is None:
            from fourlane.tasks.output import Output

            self.output_used = True
            made = Output(journal_of(self.plan.broker.store), self.lease, self)
            self._output = self.__dict__.setdefault("_output", made)
        return self._output

    @property
    def _message(self) -> dramatiq.Message[Any]:  # type: ignore[override]
        """Built when a middleware or an error first needs it: most jobs never do."""
        if self._built is None:
            self._built = message_of(self.plan.broker, self.service.name, self.leased, envelope=self.envelope)
        return self._built

    @property
    def id(self) -> str:
        return job.message_id_of(job.id_of_entry(self.leased.entry))
