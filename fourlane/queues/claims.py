"""Who runs what an event asks for straight from its queue, without a job: one at a time, and not again once it is done.

What is done is remembered with the jobs that events make (taken.py), so that the same event makes none of it either.
"""

from __future__ import annotations

from enum import StrEnum

from fourlane.queues import taken
from fourlane.queues.store import Store

__all__ = ["Claim", "Claims"]


class Claim(StrEnum):
    """What became of a claim."""

    MINE = "mine"
    OTHERS = "others"
    """Another one has it now."""
    DONE = "done"
    """It was done today or yesterday, or made a job."""


class Claims:
    """By the ids that jobs would have. Each call is one script, and may be repeated."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def claim(self, service: str, job_id: str, owner: str, milliseconds: int) -> Claim:
        """Be the only one that runs this for a time; MINE also for the one that has the claim, which so lasts on."""
        names = [self._store.service(service).claim(job_id), *taken.days(self._store, service)]
        return Claim(self._store.connector.run("claim", names, (job_id, owner, milliseconds)).decode())

    def done(self, service: str, job_id: str, owner: str) -> None:
        """Remember that it was done, and give the claim up."""
        today, *_ = taken.days(self._store, service)
        names = (self._store.service(service).claim(job_id), today)
        self._store.connector.run("done", names, (job_id, owner, taken.REMEMBER_MS))

    def release(self, service: str, job_id: str, owner: str) -> None:
        """Give a claim up, if one has it still."""
        key = self._store.service(service).claim(job_id)
        self._store.connector.run("release", (key,), (owner,))
