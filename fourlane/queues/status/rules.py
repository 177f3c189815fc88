"""What is wrong with what was seen: pure rules, with the names and severities of deploy/prometheus-rules.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from fourlane.names import Tier
from fourlane.queues import doctor
from fourlane.queues.guards import ProviderState
from fourlane.queues.status.seen import Beyond, Seen

__all__ = ["SEVERITIES", "Severity", "Trouble", "judge", "runbook", "target_of"]

_RISING: Final = 10
_SCHEDULED_LATE_MS: Final = 300_000
_OUTBOX_LATE_MS: Final = 60_000
_STREAM_WAITING: Final = 1_000

_ORDER: Final = ("critical", "warning", "info")
Severity = Literal["critical", "warning", "info"]
SEVERITIES: Final[dict[str, Severity]] = {
    "NoWorker": "critical",
    "TierPastTarget": "warning",
    "ScheduledTierLate": "warning",
    "DeadLettersRising": "warning",
    "ScheduleLate": "warning",
    "OutboxLag": "warning",
    "OutboxFailing": "warning",
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
        if lag.newly_failed > _RISING:
            yield Trouble("OutboxFailing", "", f"{lag.newly_failed:,} outbox row(s) failed in 30 minutes")
        if lag.kind == "stream" and lag.waiting > _STREAM_WAITING:
            yield Trouble("StreamLag", lag.name, f"{lag.name}: {lag.waiting:,} events wait")
    for name, why in beyond.unreachable.items():
        yield Trouble("BeyondUnreachable", name, f"{name} could not be asked: {why}")
    for one in beyond.spending:
        spent = one.refusing or one.share >= 1
        if spent or one.share >= one.warn_at:
            text = f"{one.share:.0%} of the AI budget of {one.budget_usd:,.2f} USD of {one.budget} are used"
            text += "; calls are refused" if one.refusing else ""
            yield Trouble("BudgetSpent" if spent else "BudgetNearlySpent", one.budget, text)


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
