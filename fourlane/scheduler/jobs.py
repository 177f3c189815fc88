"""The jobs of schedules."""

from __future__ import annotations

from fourlane import codec, job
from fourlane.queues.schedules import Schedule

__all__ = ["job_of"]


def job_of(schedule: Schedule, nominal_ms: int, at_ms: int) -> tuple[str, bytes]:
    """The id and the body of its job for a nominal time."""
    options = {"schedule": schedule.name, "scheduled_for": nominal_ms}
    body = codec.encode(schedule.task, schedule.args, schedule.kwargs, options, enqueued_ms=at_ms)
    return job.new_id(schedule.tier, at_ms), body
