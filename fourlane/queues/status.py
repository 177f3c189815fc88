"""Whether all goes well now: one look at what can be seen in Redis, with what is known beyond it, and what is wrong.

``fourlane status``, the alerts without an Alertmanager and the metrics share it. `judge` is pure; its rules carry the
names and severities of deploy/prometheus-rules.yaml, and each has a page in docs/runbooks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from fourlane.names import Tier
from fourlane.queues import browse, doctor, kept, schedules
from fourlane.queues.browse import ServiceInfo, WorkerInfo
from fourlane.queues.guards import ProviderState, ProviderStates
from fourlane.queues.store import Store

__all__ = [
    "SEVERITIES",
    "Beyond",
    "Lag",
    "Late",
    "Seen",
    "Severity",
    "Spending",
    "Trouble",
    "judge",
    "look",
    "runbook",
    "target_of",
]

_RISING_MS: Final = 1_800_000
_RISING: Final = 10
_SCHEDULED_LATE_MS: Final = 300_000
_OUTBOX_LATE_MS: Final = 60_000
_STREAM_WAITING: Final = 1_000
_BUDGET_NEAR: Final = 0.8

_ORDER: Final = ("critical", "warning", "info")
Severity = Literal["critical", "warning", "info"]
SEVERITIES: Final[dict[str, Severity]] = {
    "NoWorker": "critical",
    "TierPastTarget": "warning",
    "ScheduledTierLate": "warning",
    "DeadLettersRising": "warning",
    "ScheduleLate": "warning",
    "OutboxLag": "warning",
    "StreamLag": "warning",
    "BeyondUnreachable": "warning",
    "RedisMemory": "warning",
    "BudgetNearlySpent": "warning",
    "BudgetSpent": "critical",
    "DataLost": "critical",
    "JobOverrun": "warning",
    "ProviderDown": "warning",
    "WorkersLost": "info",
}
"""The rules, and how urgent each is."""


class Late(msgspec.Struct, frozen=True):
    """A schedule that is not paused.

    Parameters:
      late_ms: for how long its next time is overdue; 0: it is not.
      allowed_ms: what is no trouble yet.
      last_ms: how long after its time its last job was made.
    """

    name: str
    service: str
    late_ms: int
    allowed_ms: int
    last_ms: int = 0


class Lag(msgspec.Struct, frozen=True):
    """What waits outside Redis. ``oldest_ms``: for how long the oldest has; None: nothing waits, or it is not told."""

    kind: Literal["outbox", "stream"]
    name: str
    waiting: int
    oldest_ms: int | None = None


class Spending(msgspec.Struct, frozen=True):
    """A tenant with a budget, and what it has spent and reserved this month."""

    tenant: str
    used_usd: float
    budget_usd: float

    @property
    def share(self) -> float:
        return self.used_usd / self.budget_usd if self.budget_usd else 1.0


class Beyond(msgspec.Struct, frozen=True):
    """What is known of what lies beyond the queues, where settings say that there is any."""

    lags: list[Lag] = []
    spending: list[Spending] = []
    unreachable: dict[str, str] = {}
    """What could not be asked, and why."""


class Seen(msgspec.Struct, frozen=True):
    """What one look saw."""

    services: list[ServiceInfo]
    workers: list[WorkerInfo]
    schedules: list[Late]
    providers: list[ProviderState]
    memory: tuple[int, int] | None
    died: dict[str, int]
    """Dead letters of the last 30 minutes, by queue."""
    beyond: Beyond
    data_lost: bool = False
    """Redis lacks what running programs declared to it."""


class Trouble(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    rule: str
    about: str
    text: str

    @property
    def incident(self) -> str:
        """The same as long as it lasts."""
        return f"{self.rule}:{self.about}" if self.about else self.rule

    @property
    def severity(self) -> Severity:
        return SEVERITIES[self.rule]


def runbook(rule: str) -> str:
    """The page of a rule."""
    return "docs/runbooks/" + re.sub(r"(?<=[a-z])(?=[A-Z])", "-", rule).lower() + ".md"


def look(store: Store, beyond: Beyond = Beyond()) -> Seen:
    """Look once. Calls no provider. Raises RedisUnavailable."""
    services = browse.services(store)
    return Seen(
        services=services,
        workers=browse.workers(store),
        schedules=[late for service in services for late in _schedules(store, service)],
        providers=ProviderStates(store).look(),
        memory=browse.memory(store),
        died={queue.name: _died(store, queue, s.at_ms) for s in services for queue in s.queues if queue.dead},
        beyond=beyond,
        data_lost=kept.is_lost(store),
    )


def _schedules(store: Store, service: ServiceInfo) -> Iterator[Late]:
    names = schedules.names(store, service.name)
    last = schedules.lateness(store, service.name, names)
    for name, (schedule, state, _) in schedules.read(store, service.name, names).items():
        if not state.paused:
            due_ms = state.next_ms + schedule.spread_ms + schedule.jitter_ms
            late_ms = max(0, service.at_ms - due_ms) if state.next_ms else 0
            _, was_due_ms, at_ms = last.get(name, (0, 0, 0))
            yield Late(name, service.name, late_ms, schedule.late_after_ms, max(0, at_ms - was_due_ms))


def _died(store: Store, queue: browse.QueueInfo, now_ms: int) -> int:
    key = store.service(queue.service).dead[queue.tier]
    return int(store.connector.command(key, "ZCOUNT", key, now_ms - _RISING_MS, "+inf"))


# What is wrong ----------------------------------------------------------------------------------------------


def judge(seen: Seen) -> list[Trouble]:
    """What is wrong, the urgent first."""
    found = [*_queues(seen), *_beyond(seen.beyond), *_rest(seen)]
    return sorted(found, key=lambda trouble: _ORDER.index(trouble.severity))


def _queues(seen: Seen) -> Iterator[Trouble]:
    for service in seen.services:
        if waiting := doctor.unserved(service):
            yield Trouble("NoWorker", service.name, f"{waiting:,} job(s) of {service.name} wait and have no worker")
        for queue in service.queues:
            age_ms = 0 if queue.paused else queue.oldest_age_ms or 0
            scheduled = queue.tier is Tier.P3
            if age_ms > (_SCHEDULED_LATE_MS if scheduled else queue.tier.target_ms):
                rule = "ScheduledTierLate" if scheduled else "TierPastTarget"
                yield Trouble(rule, queue.name, f"{queue.name}: the next job has waited {age_ms / 1000:,.0f} s")
            if (died := seen.died.get(queue.name, 0)) > _RISING:
                yield Trouble("DeadLettersRising", queue.name, f"{queue.name}: {died:,} dead letters in 30 minutes")
    for one in seen.schedules:
        if one.late_ms > one.allowed_ms:
            yield Trouble(
                "ScheduleLate",
                f"{one.service}/{one.name}",
                f"schedule {one.name} of {one.service} is {one.late_ms / 1000:,.0f} s late: does a scheduler run?",
            )


def _beyond(beyond: Beyond) -> Iterator[Trouble]:
    for lag in beyond.lags:
        if lag.kind == "outbox" and (lag.oldest_ms or 0) > _OUTBOX_LATE_MS:
            waited = (lag.oldest_ms or 0) / 1000
            yield Trouble("OutboxLag", "", f"{lag.waiting:,} outbox row(s) wait, the oldest for {waited:,.0f} s")
        if lag.kind == "stream" and lag.waiting > _STREAM_WAITING:
            yield Trouble("StreamLag", lag.name, f"{lag.name}: {lag.waiting:,} events wait")
    for name, why in beyond.unreachable.items():
        yield Trouble("BeyondUnreachable", name, f"{name} could not be asked: {why}")
    for one in beyond.spending:
        if one.share >= _BUDGET_NEAR:
            rule = "BudgetSpent" if one.share >= 1 else "BudgetNearlySpent"
            text = f"{one.tenant} has used {one.share:.0%} of its AI budget of {one.budget_usd:,.2f} USD this month"
            yield Trouble(rule, one.tenant, text)


def _rest(seen: Seen) -> Iterator[Trouble]:
    if seen.data_lost:
        yield Trouble("DataLost", "", "Redis lost its data; schedules and limits that code declares are not back yet")
    for worker in seen.workers:
        if worker.overrun is not None and not worker.lost:
            yield Trouble("JobOverrun", worker.overrun.job, f"{worker.overrun} in {worker.name}")
    if seen.memory is not None:
        used, most = seen.memory
        if most and used > most * doctor.NEAR:
            yield Trouble("RedisMemory", "", f"Redis uses {used / most:.0%} of its maxmemory")
    if lost := [worker for worker in seen.workers if worker.lost]:
        yield Trouble("WorkersLost", "", f"{len(lost):,} worker process(es) not seen for 90 s, e.g. {lost[0].name}")
    for target in sorted({target_of(state) for state in seen.providers if state.state != "closed"}):
        yield Trouble("ProviderDown", target, f"calls to {target} fail: its breaker is open")


def target_of(state: ProviderState) -> str:
    """Provider and model, without the key."""
    model = state.name.rpartition(":")[0]
    return f"{state.provider}/{model}" if model else state.provider
