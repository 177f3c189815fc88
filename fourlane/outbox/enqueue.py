"""Writes jobs into the outbox, in the transaction of the caller."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, Protocol, TypeVar

import dramatiq

from fourlane import codec, job
from fourlane.db.models import JobOutbox
from fourlane.names import Queue, Tier
from fourlane.queues import make
from fourlane.tasks.task import EnqueuedJob, Task

__all__ = ["enqueue", "enqueue_with_options"]

P = ParamSpec("P")
R = TypeVar("R")


class Adds(Protocol):
    """A Session or AsyncSession of SQLAlchemy."""

    def add(self, instance: object) -> None: ...


def enqueue(session: Adds, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> EnqueuedJob[R]:
    """Enqueue a job of the task, if and when the session's transaction commits. Redis is not asked.

    The job that is returned is unknown to Redis until a relay has moved it, some milliseconds after the commit.

    Raises:
      InvalidArguments, JobTooLarge: nothing was added to the session.
    """
    return enqueue_with_options(session, task, args=args, kwargs=kwargs)


def enqueue_with_options(
    session: Adds,
    task: Task[Any, R],
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    delay: timedelta | int | None = None,
    eta: datetime | None = None,
    tier: Tier | str | int | None = None,
    order_key: str | None = None,
    organization_id: uuid.UUID | None = None,
    tenant: str | None = None,
    id: uuid.UUID | None = None,
    **options: Any,
) -> EnqueuedJob[R]:
    """As enqueue, with options.

    Parameters:
      delay: milliseconds, or a timedelta, from now until it may run.
      eta: the moment from which it may run, with a time zone.
      tier: another tier than the task's.
      order_key: jobs of one key reach their queue in the order of their inserts.
      organization_id: whose row it is.
      tenant: the organization on whose behalf; ``organization_id`` by default, else that of the job that runs here.
      id: the job's id. A second row of the same id violates a constraint when the session is flushed.
      **options: those of dramatiq and its middleware, e.g. ``max_retries``.
    """
    run_at = _run_at(delay, eta)
    if options:
        options = task.message_with_options(**options).options
    if tenant is not None or organization_id is not None:
        options["tenant"] = organization_id if tenant is None else tenant
    queue, row_id = Queue(task.service, task.tier if tier is None else Tier.parse(tier)), id or uuid.uuid4()
    broker = task.broker
    made = make.draft(task.actor_name, task, options, broker.actors)
    call = args, {} if kwargs is None else kwargs
    message: dramatiq.Message[Any] | None = None
    if broker.tells_of_enqueue:
        # Here and not in the relay: what middleware adds, such as a trace, belongs to this moment.
        message = dramatiq.Message(
            queue_name=broker.name_of(queue),
            actor_name=task.actor_name,
            args=tuple(call[0]),
            kwargs=dict(call[1]),
            options=dict(made.options),
            message_id=str(row_id),
        )
        broker.emit_before("enqueue", message, None)
        made, call = make.with_options(made, message.options), (message.args, message.kwargs)

    def accept(made: make.Draft, queue: Queue) -> None:
        if organization_id is not None:  # else the relay takes that for the tenant
            made = make.with_options(made, {"tenant": "", **made.options})
        body = made.body(
            job.id_of_message(str(row_id), queue.tier), *call, max_bytes=broker.opened.defaults.max_body_bytes
        )
        in_json = codec.parts_of(body)
        session.add(
            JobOutbox(
                id=row_id,
                task=task.actor_name,
                service=queue.service,
                tier=int(queue.tier),
                args=in_json.args,
                kwargs=in_json.kwargs,
                options=in_json.options,
                run_at=run_at,
                order_key=order_key,
                organization_id=organization_id,
            )
        )

    make.accepted(made, queue, broker.name_of, accept)
    if message is not None:
        broker.emit_after("enqueue", message, None)
    return EnqueuedJob(broker, queue, str(row_id))


def _run_at(delay: timedelta | int | None, eta: datetime | None) -> datetime | None:
    if delay is not None and eta is not None:
        raise ValueError("give either delay or eta, not both")
    if eta is not None:
        if eta.tzinfo is None:
            raise ValueError(f"eta needs a time zone, such as {datetime.now(UTC).isoformat(timespec='seconds')}")
        return eta
    if not delay:
        return None
    after = delay if isinstance(delay, timedelta) else timedelta(milliseconds=delay)
    if after < timedelta(0):
        raise ValueError(f"delay must be 0 or more milliseconds, not {delay}")
    return datetime.now(UTC) + after
