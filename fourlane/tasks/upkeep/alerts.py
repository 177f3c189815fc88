"""Alerts where there is no Alertmanager: what `fourlane status` finds wrong goes to PagerDuty, Slack or email.

A look is taken once a minute (tasks/upkeep/maintenance.py):

1. What two looks in a row see is told, once; what two looks in a row miss is told as resolved, on the same channel.
2. What was told is kept in Redis, after its job was enqueued. A look that is killed between the two enqueues the same
   again, under the same dedup key, and of those one is sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from fourlane.errors import SettingsError
from fourlane.queues.redis.replies import pairs

if TYPE_CHECKING:
    from fourlane.config.groups.notifications import NotificationSettings
    from fourlane.queues.status import Trouble
    from fourlane.queues.store import Store

__all__ = ["Alarm", "Told", "look_again", "notice", "routes"]

log = logging.getLogger("fourlane.alerts")

Channel = Literal["pagerduty", "slack", "email"]
_PREFERRED: Final[dict[str, tuple[Channel, ...]]] = {
    "critical": ("pagerduty", "slack", "email"),
    "warning": ("slack", "email", "pagerduty"),
    "info": ("email", "slack", "pagerduty"),
}
_LOOKS: Final = 2
_MOST: Final = 200  # alarms at once
_MOST_A_LOOK: Final = 20  # told; the others at the next looks
_KEPT_MS: Final = 7 * 86_400_000
_TEXT_CHARACTERS: Final = 500


class Alarm(msgspec.Struct, frozen=True):
    """What is kept of one thing that is wrong, from the first look that saw it.

    Parameters:
      incident: the same as long as it lasts.
      told: the channel that has been told of it; empty for none yet.
      missed: looks in a row that saw it no more.
    """

    incident: str
    rule: str
    about: str
    severity: str
    text: str
    since_ms: int
    seen: int = 1
    missed: int = 0
    told: str = ""


class Told(msgspec.Struct, frozen=True):
    """A message that is due."""

    alarm: Alarm
    resolved: bool


def routes(settings: NotificationSettings) -> dict[str, Channel]:
    """Which channel is told, by severity: the preferred one of those that are set up.

    Raises SettingsError: there is none.
    """
    email = settings.alert_email and settings.email_from and (settings.smtp_url or settings.resend_api_key)
    there = {"pagerduty": settings.pagerduty_routing_key, "slack": settings.slack_webhook_url, "email": email}
    if not any(there.values()):
        raise SettingsError(
            "FOURLANE_ALERTS: there is nobody to tell; set FOURLANE_PAGERDUTY_ROUTING_KEY, FOURLANE_SLACK_WEBHOOK_URL, "
            "or FOURLANE_ALERT_EMAIL and what emails need (docs/notifications.md)"
        )
    return {severity: next(c for c in channels if there[c]) for severity, channels in _PREFERRED.items()}


def notice(
    alarms: Mapping[str, Alarm], troubles: Sequence[Trouble], now_ms: int, channels: Mapping[str, Channel]
) -> tuple[dict[str, Alarm], list[Told]]:
    """What is to be kept after a look, and what is to be told. Pure.

    Parameters:
      alarms: what was kept before, by incident.
      troubles: what this look found, the urgent first.
    """
    kept: dict[str, Alarm] = {}
    told: list[Told] = []
    room = _MOST - len(alarms)
    found = {trouble.incident: trouble for trouble in troubles}
    for incident, trouble in found.items():
        alarm = alarms.get(incident)
        if alarm is None:
            if room > 0:
                room -= 1
                kept[incident] = Alarm(incident, trouble.rule, trouble.about, trouble.severity, trouble.text, now_ms)
            continue
        alarm = msgspec.structs.replace(alarm, seen=alarm.seen + 1, missed=0, text=trouble.text)
        if not alarm.told and alarm.seen >= _LOOKS and len(told) < _MOST_A_LOOK:
            alarm = msgspec.structs.replace(alarm, told=channels[alarm.severity])
            told.append(Told(alarm, resolved=False))
        kept[incident] = alarm
    for incident, alarm in alarms.items():
        if incident in found:
            continue
        alarm = msgspec.structs.replace(alarm, missed=alarm.missed + 1)
        if alarm.told and alarm.missed >= _LOOKS and len(told) < _MOST_A_LOOK:
            told.append(Told(alarm, resolved=True))
        elif alarm.told:  # what was not told yet may be forgotten
            kept[incident] = alarm
    return kept, told


def look_again(
    store: Store,
    troubles: Sequence[Trouble],
    now_ms: int,
    channels: Mapping[str, Channel],
    tell: Callable[[Store, Told], Any] | None = None,
) -> list[Told]:
    """Tell what is new since the last look, and what is over. Returns what was told.

    Parameters:
      tell: enqueues one message.

    Raises RedisUnavailable.
    """
    key = store.keys.alerts
    before = _read(store)
    kept, told = notice(before, troubles, now_ms, channels)
    for one in told:
        (tell or enqueue)(store, one)
        log.warning("%s %s: %s", "resolved" if one.resolved else "alert", one.alarm.told, one.alarm.text)
    command = store.connector.command
    if gone := before.keys() - kept.keys():
        command(key, "HDEL", key, *gone)
    if kept:
        fields = [part for incident, alarm in kept.items() for part in (incident, msgspec.json.encode(alarm))]
        command(key, "HSET", key, *fields)
        command(key, "PEXPIRE", key, _KEPT_MS)
    return told


def enqueue(store: Store, told: Told) -> None:
    """Hand a message to the task of its channel."""
    from fourlane.queues.status import runbook
    from fourlane.tasks.notifications.deliver import setup
    from fourlane.tasks.notifications.notification import Notification
    from fourlane.tasks.notifications.notify import notify

    alarm = told.alarm
    end = ":resolved" if told.resolved else ""
    notify(
        alarm.told,  # type: ignore[arg-type]  # one of Channel
        Notification(
            to=setup().alert_email if alarm.told == "email" else None,
            subject=f"{'Resolved: ' if told.resolved else ''}{alarm.text}"[:_TEXT_CHARACTERS],
            text=f"{alarm.rule} ({alarm.severity}) in {store.environment}; see {runbook(alarm.rule)}",
            severity=alarm.severity,  # type: ignore[arg-type]  # notify checks it
            source=f"fourlane {store.environment}",
            details={"rule": alarm.rule, "about": alarm.about},
            incident=f"fourlane:{store.environment}:{alarm.incident}",
            resolved=told.resolved,
            dedup_key=f"{store.environment}:{alarm.incident}:{alarm.since_ms}{end}",
            category="alerts",
            urgent=True,
            required=True,
        ),
        tier="P0",
    )


def _read(store: Store) -> dict[str, Alarm]:
    key = store.keys.alerts
    kept = pairs(store.connector.command(key, "HGETALL", key))
    alarms = [msgspec.json.decode(text, type=Alarm) for _, text in kept]
    return {alarm.incident: alarm for alarm in alarms}
