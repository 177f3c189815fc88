"""The way in: a notification is checked here, before there is a job of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from fourlane.errors import SettingsError
from fourlane.names import Tier
from fourlane.tasks.notifications.deliver import TASKS, Sent, sendable, setup
from fourlane.tasks.notifications.notification import Channel, Notification
from fourlane.tasks.task import EnqueuedJob

if TYPE_CHECKING:
    from fourlane.outbox.enqueue import Adds

__all__ = ["alert", "notify"]


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
    options: dict[str, Any] = {"kwargs": given.fields(), "tier": tier, "delay": delay, "eta": eta}
    if session is None:
        return TASKS[channel].send_with_options(**options)
    from fourlane.outbox.enqueue import enqueue_with_options

    return enqueue_with_options(session, TASKS[channel], organization_id=given.organization_id, **options)


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
            category="alerts",
            urgent=True,
        ),
        tier="P0",
    )
