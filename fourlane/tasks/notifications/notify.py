"""The way in: a notification is checked here, before there is a job of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

from fourlane.errors import SettingsError
from fourlane.names import Tier
from fourlane.tasks.notifications.bulk import MOST, emails
from fourlane.tasks.notifications.deliver import TASKS, Sent, sendable, setup
from fourlane.tasks.notifications.notification import Channel, Link, Notification
from fourlane.tasks.task import EnqueuedJob, Task

if TYPE_CHECKING:
    from fourlane.outbox.enqueue import Adds

__all__ = ["alert", "notify", "notify_many"]

R = TypeVar("R")
_MOST_JOB_BYTES: Final = 250_000


def notify(
    channel: Channel,
    notification: Notification,
    *,
    tier: Tier | str | int | None = None,
    delay: timedelta | int | None = None,
    eta: datetime | None = None,
    session: Adds | None = None,
) -> EnqueuedJob[Sent]:
    """Enqueue a notification. What can be known to be wrong with it is refused here.

    Parameters:
      tier, delay, eta: as for any task; the tier is P1 by default.
      session: enqueue through the outbox, in this session's transaction.

    Raises:
      InvalidNotification: an address that is none, no such template, a variable that is missing, and the like.
      SettingsError: a setting or a package for it is missing.
      JobTooLarge, RedisUnavailable
    """
    given = sendable(channel, notification.fields())
    options = {"kwargs": given.fields(), "tier": tier, "delay": delay, "eta": eta}
    return _enqueue(TASKS[channel], options, given.organization_id, session)


def notify_many(
    notifications: Iterable[Notification],
    *,
    tier: Tier | str | int | None = None,
    delay: timedelta | int | None = None,
    eta: datetime | None = None,
    session: Adds | None = None,
) -> list[EnqueuedJob[list[Sent]]]:
    """Enqueue many emails, up to a hundred in a job: they go to Resend in one request. None, when one is refused.

    Parameters as those of `notify`, and it raises the same.
    """
    given = [sendable("email", notification.fields()) for notification in notifications]
    return [
        _enqueue(
            emails,
            {"kwargs": {"notifications": some}, "tier": tier, "delay": delay, "eta": eta},
            organization_id,
            session,
        )
        for organization_id, some in _jobs(given)
    ]


def _jobs(given: Iterable[Notification]) -> Iterator[tuple[UUID | None, list[dict[str, Any]]]]:
    """The emails of each job: of one organization, not too many, and not too long."""
    open_jobs: dict[UUID | None, list[dict[str, Any]]] = {}
    sizes: dict[UUID | None, int] = {}
    for notification in given:
        whose, fields = notification.organization_id, notification.fields()
        size = len(json.dumps(fields))
        some = open_jobs.get(whose, [])
        if some and (len(some) == MOST or sizes[whose] + size > _MOST_JOB_BYTES):
            yield whose, open_jobs.pop(whose)
            some = []
        open_jobs[whose] = [*some, fields]
        sizes[whose] = size + (sizes[whose] if some else 0)
    yield from open_jobs.items()


def _enqueue(
    task: Task[..., R], options: dict[str, Any], organization_id: UUID | None, session: Adds | None
) -> EnqueuedJob[R]:
    if session is None:
        return task.send_with_options(**options, tenant=organization_id)
    from fourlane.outbox.enqueue import enqueue_with_options

    return enqueue_with_options(session, task, organization_id=organization_id, **options)


def alert(
    summary: str,
    *,
    severity: str = "error",
    text: str = "",
    source: str = "",
    details: dict[str, Any] | None = None,
    incident: str = "",
    resolved: bool = False,
    dedup_key: str = "",
    links: Sequence[Link] = (),
) -> EnqueuedJob[Sent]:
    """Tell operators: ``critical`` by PagerDuty, ``error`` and ``warning`` by Slack, ``info`` by email.

    Parameters:
      incident: what it is about; alerts of one incident are one to PagerDuty, and ``resolved`` ends it.

    Raises as `notify`; SettingsError: there is no ``FOURLANE_ALERT_EMAIL`` for an ``info``.
    """
    channel: Channel = {"critical": "pagerduty", "info": "email"}.get(severity, "slack")  # type: ignore[assignment]
    to = None
    if channel == "email":
        to = setup().alert_email
        if not to:
            raise SettingsError("FOURLANE_ALERT_EMAIL is not set; alerts of the severity info go there")
    return notify(
        channel,
        Notification(
            to=to,
            subject=summary,
            text=text or summary,
            severity=severity,  # type: ignore[arg-type]  # notify checks it
            source=source,
            details=details or {},
            incident=incident,
            resolved=resolved,
            dedup_key=dedup_key,
            links=list(links),
            category="alerts",
            urgent=True,
        ),
        tier="P0",
    )
