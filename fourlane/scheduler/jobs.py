"""The jobs of schedules; and the arguments of those for encrypted tasks, which are kept encrypted until then."""

from __future__ import annotations

import msgspec

from fourlane import job
from fourlane.queues import make
from fourlane.queues.schedules import Schedule

__all__ = ["job_of", "sealed"]


def sealed(schedule: Schedule) -> Schedule:
    """The same schedule, as it is kept for an encrypted task. Raises EncryptionError: there are no keys."""
    from fourlane.sealing import seal_arguments

    text = seal_arguments(_place(schedule), schedule.args, schedule.kwargs)
    return msgspec.structs.replace(schedule, args=[], kwargs={}, sealed=text)


def job_of(schedule: Schedule, nominal_ms: int, at_ms: int) -> tuple[str, bytes]:
    """The id and the body of its job for a nominal time. Raises EncryptionError: the key is missing."""
    args, kwargs = schedule.args, schedule.kwargs
    if schedule.sealed:
        from fourlane.sealing import open_arguments

        args, kwargs = open_arguments(_place(schedule), schedule.sealed)
    job_id = job.new_id(schedule.tier, at_ms)
    options = {"schedule": schedule.name, "scheduled_for": nominal_ms}
    made = make.Draft(schedule.task, options, bool(schedule.sealed))
    return job_id, made.body(job_id, args, kwargs, enqueued_ms=at_ms)


def _place(schedule: Schedule) -> str:
    return f"schedule {schedule.service}/{schedule.name} of {schedule.task}"
