"""Where it is decided that a job waited too long to begin any more."""

from __future__ import annotations

from dramatiq.middleware import SkipMessage

from fourlane import job
from fourlane.errors import FourlaneError
from fourlane.worker.run.run import Run

__all__ = ["WORDS_OF_DRAMATIQ", "Expired", "refuse_expired"]

WORDS_OF_DRAMATIQ = "Message age limit exceeded"


class Expired(FourlaneError):
    """The job waited longer than it may."""


def refuse_expired(run: Run) -> None:
    """Raise Expired for a job whose age, by Redis's clock, is over its ``max_age`` or its task's."""
    max_age_ms = run.envelope.options.get("max_age") or run.plan.max_age_ms
    if not max_age_ms:
        return
    since_ms = job.ready_since_ms(run.leased.entry) or run.envelope.enqueued_ms
    if since_ms and run.store.clock.now_ms() - since_ms >= max_age_ms:
        cause = None if run.plan.is_task else SkipMessage(WORDS_OF_DRAMATIQ)
        raise Expired(f"it waited longer than {max_age_ms} ms") from cause
