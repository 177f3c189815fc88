"""The platform's own housekeeping, as tasks. Schedulers fire them (`synchronise`); each may be moved or
switched off by FOURLANE_MAINTENANCE.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from fourlane.errors import InvalidSchedule
from fourlane.queues.broker import RedisBroker
from fourlane.root import root
from fourlane.tasks.task import task
from fourlane.tasks.upkeep import alerts

if TYPE_CHECKING:
    from fourlane.config import Settings
    from fourlane.queues.schedules import Schedule
    from fourlane.queues.store import Store

__all__ = ["SERVICE", "TIMES", "housekeeping", "schedules", "synchronise"]

log = logging.getLogger("fourlane.maintenance")

SERVICE: Final = "maintenance"
OFF: Final = "off"
_UNCLEAR_AFTER: Final = timedelta(days=1)  # no provider remembers a send for longer
TIMES: Final = {
    "dead-letters": "17 2 * * *",
    "limits": "37 * * * *",
    "doctor": "0 4 * * *",
    "notifications": "27 3 * * *",
    "webhooks": "57 * * * *",
    "files": "47 3 * * *",
    "ai-books": OFF,
    "ai-batches": OFF,
    "alerts": OFF,
}
"""What there is, and when it runs (UTC). The books of AI calls are kept where there are budgets or rows, their batches
where there is a key of a provider that has any; alerts are for those without an Alertmanager."""
_EVERY_MINUTE: Final = "* * * * *"


def housekeeping(settings: Settings) -> dict[str, str]:
    """When the platform's own schedules run that do not run at their usual times; ``off``: never.

    Raises SettingsError: alerts are on and there is nobody to tell.
    """
    has_books = settings.ai.budgets_usd or settings.ai.budgets or settings.ai.log_rows
    has_batches = settings.openai_api_key or settings.anthropic_api_key
    on = {"alerts": settings.alerts, "ai-books": has_books, "ai-batches": has_batches}
    times = {name: _EVERY_MINUTE for name, wanted in on.items() if wanted} | settings.maintenance
    if times.get("alerts", "off") != "off":
        alerts.routes(settings)
    return times


def synchronise(store: Store, moved: Mapping[str, str], boot_ms: int) -> None:
    """Declare these schedules. Schedulers do that, so that no worker need load what reads rules.

    Parameters:
      moved: FOURLANE_MAINTENANCE.
      boot_ms: when this deploy began.

    Raises:
      InvalidSchedule, RedisUnavailable
    """
    from fourlane.scheduler.declare import synchronise_module
    from fourlane.scheduler.manage import check

    wanted = schedules(moved)
    for name, schedule in wanted.items():
        try:
            check(schedule)
        except InvalidSchedule as error:
            raise InvalidSchedule(f"FOURLANE_MAINTENANCE: {name}: {error}") from None
    synchronise_module(store, SERVICE, __name__, wanted, boot_ms)


def schedules(moved: Mapping[str, str]) -> dict[str, Schedule]:
    """The schedules of what is not switched off, by name.

    Parameters:
      moved: name → another cron expression, or ``off``.
    """
    from fourlane.queues.schedules import Schedule

    tasks = {
        "dead-letters": drop_old_dead_letters,
        "limits": count_limits_again,
        "doctor": examine,
        "notifications": tidy_notifications,
        "webhooks": fail_lost_deliveries,
        "files": prune_files,
        "ai-books": keep_ai_books,
        "ai-batches": collect_ai_batches,
        "alerts": alert_operators,
    }
    times = {name: moved.get(name, cron) for name, cron in TIMES.items()}
    common: dict[str, Any] = {"service": SERVICE, "module": __name__, "place": "FOURLANE_MAINTENANCE"}
    return {
        name: Schedule(name=name, task=tasks[name].actor_name, cron=cron, **common)
        for name, cron in times.items()
        if cron != OFF
    }


@task(name="fourlane.maintenance.dead-letters", service=SERVICE, tier="scheduled")
def drop_old_dead_letters() -> None:
    """Drop dead letters over their age or number, which otherwise go when the next job dies there."""
    from fourlane.queues import dead_letters

    store = _store()
    for service in store.services():
        if dropped := dead_letters.drop_old(store, service):
            log.info("dropped dead letters service=%s number=%d", service, dropped)


@task(name="fourlane.maintenance.limits", service=SERVICE, tier="scheduled")
def count_limits_again() -> None:
    """Count what runs under each limit from the leases themselves: a count that went astray ends here."""
    from fourlane.names import parse_queue
    from fourlane.queues import control

    store = _store()
    for service in {parse_queue(name, store.environment).service for name in control.limits(store)}:
        control.rewrite(store, service)


@task(name="fourlane.maintenance.doctor", service=SERVICE, tier="scheduled")
def examine() -> None:
    """What ``fourlane doctor`` finds, into the log."""
    from fourlane.queues import browse, doctor

    store = _store()
    for finding in doctor.examine(store, workers=browse.workers(store)):
        if finding.level is doctor.Level.OK:
            continue
        level = logging.ERROR if finding.level is doctor.Level.ERROR else logging.WARNING
        log.log(level, "doctor %s: %s%s", finding.name, finding.text, f" ({finding.fix})" if finding.fix else "")


@task(name="fourlane.maintenance.notifications", service=SERVICE, tier="scheduled")
def tidy_notifications() -> None:
    """Give up sends whose end nobody saw for a day, and forget records over their age."""
    from fourlane.tasks.notifications.setup import kept_ledger

    ledger = kept_ledger(root())
    if ledger is None:
        return
    now = datetime.now(UTC)
    lost = ledger.give_up(now - _UNCLEAR_AFTER)
    if lost:
        log.warning("notifications number=%d: whether they were sent is not known", lost)
    before, forgotten = now - timedelta(days=root().settings.notification_keep_days), 0
    while some := ledger.forget(before):
        forgotten += some
    if forgotten:
        log.info("forgot records of notifications number=%d", forgotten)


@task(name="fourlane.maintenance.webhooks", service=SERVICE, tier="scheduled")
def fail_lost_deliveries() -> None:
    """Mark deliveries as failed that have had no job for an hour."""
    from fourlane.db.setup import kept_database

    database = kept_database(root(), "webhook_deliveries")
    if database is None:
        return
    from fourlane.tasks.webhooks import jobless

    if lost := jobless.fail(database, _store(), before=datetime.now(UTC) - jobless.PATIENCE):
        log.warning("webhooks number=%d: their jobs were cancelled, purged or lost; see `webhooks resend`", lost)


@task(name="fourlane.maintenance.files", service=SERVICE, tier="scheduled")
def prune_files() -> None:
    """Delete stored files over their age."""
    from fourlane.storage.setup import kept_storage

    days = root().settings.storage_days
    kept = kept_storage(root()) if days else None
    if kept is None:
        return
    if gone := kept.prune(datetime.now(UTC) - timedelta(days=days)):
        log.info("pruned stored files number=%d", gone)


@task(name="fourlane.maintenance.ai-books", service=SERVICE, tier="scheduled", max_retries=0, timeout_ms=50_000)
def keep_ai_books() -> None:
    """Give back what dead jobs hold of AI budgets, and write the rows that the database did not take before."""
    from fourlane.queues.browse import now_ms
    from fourlane.queues.guards import Budgets
    from fourlane.tasks.ai.config import configured
    from fourlane.tasks.ai.money.rows import write_later

    store = _store()
    budgets = Budgets(store)
    if swept := budgets.sweep(now_ms(store)):
        log.info("gave back reservations of AI budgets number=%d", swept)
    database = configured().database
    if database is not None and (written := write_later(database, budgets)):
        log.info("wrote rows of AI calls number=%d", written)


@task(name="fourlane.maintenance.ai-batches", service=SERVICE, tier="low", max_retries=0, timeout_ms=1_800_000)
async def collect_ai_batches() -> None:
    """Hand AI requests that wait over in batches, and deliver what has come of those before."""
    from fourlane.tasks.ai.batches.collecting import collect
    from fourlane.tasks.ai.config import configured
    from fourlane.tasks.context import current_job

    job = current_job()
    await collect(_store(), configured(), who="none" if job is None else job.id)


@task(name="fourlane.maintenance.alerts", service=SERVICE, tier="high", max_retries=0, timeout_ms=50_000)
def alert_operators() -> None:
    """What ``fourlane status`` finds, to PagerDuty, Slack and email; and when it is well again."""
    from fourlane.queues.browse import now_ms
    from fourlane.queues.status import judge, look
    from fourlane.tasks.upkeep.beyond import Outside

    store, channels = _store(), alerts.routes(root().settings)
    troubles = judge(look(store, Outside(root()).look(store)))
    alerts.look_again(store, troubles, now_ms(store), channels)


def _store() -> Store:
    broker: RedisBroker = examine.broker
    return broker.store
