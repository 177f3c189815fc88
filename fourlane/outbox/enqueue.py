"""Writes jobs into the outbox, in the transaction of the caller."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, Protocol, TypeVar

import dramatiq

from fourlane import codec, job
from fourlane.db.models import JobOutbox
from fourlane.errors import InvalidOption
from fourlane.names import Queue, Tier
from fourlane.queues import make
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.task import EnqueuedJob, Task
from fourlane.when import When, when_of

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
    when = when_of(delay, eta)
    if options:
        options = task.message_with_options(**options).options
    if tenant is not None or organization_id is not None:
        options["tenant"] = organization_id if tenant is None else tenant
    queue = Queue(task.service, task.tier if tier is None else Tier.parse(tier))
    row = JobOutbox(
        id=id or uuid.uuid4(),
        task=task.actor_name,
        service=queue.service,
        tier=int(queue.tier),
        run_at=None if when is None else _run_at(when, task.broker.opened.defaults.outbox_days_ahead),
        order_key=order_key,
        organization_id=organization_id,
    )
    broker, kwargs = task.broker, {} if kwargs is None else kwargs
    made = make.draft(task.actor_name, task, options, broker.actors)
    if broker.tells_of_enqueue:
        # Here and not in the relay: what middleware adds, such as a trace, belongs to this moment.
        message = dramatiq.Message[Any](
            broker.name_of(queue), task.actor_name, tuple(args), dict(kwargs), dict(made.options), str(row.id)
        )
        broker.emit_before("enqueue", message, None)
        made = make.with_options(made, message.options)
        make.accepted(made, queue, broker.name_of, _add, row, session, broker, message.args, message.kwargs)
        broker.emit_after("enqueue", message, None)
    else:
        make.accepted(made, queue, broker.name_of, _add, row, session, broker, args, kwargs)
    return EnqueuedJob(broker, queue, str(row.id), is_sealed=made.sealed)


def _run_at(when: When, days_ahead: int) -> datetime:
    """Raises InvalidOption."""
    now = datetime.now(UTC)
    moment = when.moment(now)
    if moment > now + timedelta(days=days_ahead):
        raise InvalidOption(
            f"{moment:%Y-%m-%d} is further ahead than the {days_ahead} days of FOURLANE_OUTBOX_DAYS_AHEAD"
        )
    return moment


def _add(
    made: make.Draft,
    queue: Queue,
    row: JobOutbox,
    session: Adds,
    broker: RedisBroker,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> None:
    if row.organization_id is not None:  # else the relay takes that for the tenant
        made = make.with_options(made, {"tenant": "", **made.options})
    job_id = job.id_of_message(str(row.id), queue.tier)
    body = made.body(job_id, args, kwargs, max_bytes=broker.opened.defaults.max_body_bytes)
    row.args, row.kwargs, row.options = codec.parts_of(body)
    if lines := made.lines_of(args, kwargs):
        row.options = codec.with_option(row.options, codec.LINES, lines)
    session.add(row)
