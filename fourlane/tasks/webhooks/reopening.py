"""The way to an endpoint that was repaired, moved or disabled: what waits for it comes now, whatever it waited for."""

from __future__ import annotations

import uuid
from typing import Any, Final

from fourlane import job as jobs
from fourlane.queues.control import hasten
from fourlane.queues.guards import Lines
from fourlane.tasks.task import task
from fourlane.tasks.webhooks.lines import endpoint_line
from fourlane.tasks.webhooks.policy import SERVICE, TIER
from fourlane.tasks.webhooks.setup import setup

__all__ = ["reopen", "reopen_for"]

_MOST_HASTENED: Final = 10_000
"""As many are delayed at once only where as many were on their way at once."""


def reopen_for(session: Any, endpoint_id: uuid.UUID) -> None:
    """Have its way opened, if and when the session's transaction commits: so its deliveries find what that wrote."""
    from fourlane.outbox import enqueue_with_options

    enqueue_with_options(session, reopen, args=[endpoint_id.hex], tenant="")


@task(name="fourlane.webhooks.reopen", service=SERVICE, tier=TIER)
def reopen(endpoint_id: str) -> int:
    """Open an endpoint's line, and let its delayed deliveries run. Returns how many these were."""
    from sqlalchemy import select

    from fourlane.db.models import WebhookDelivery

    store = reopen.broker.store
    lines, line = Lines(store), endpoint_line(endpoint_id)
    lines.widen(SERVICE, line)
    lines.close(SERVICE, line, 0)
    tried = (
        select(WebhookDelivery.job_id)
        .where(
            WebhookDelivery.endpoint_id == uuid.UUID(endpoint_id),
            WebhookDelivery.status == "pending",
            WebhookDelivery.attempts > 0,
            WebhookDelivery.job_id.is_not(None),
        )
        .order_by(WebhookDelivery.created_at)
        .limit(_MOST_HASTENED)
    )
    with setup().database.begin() as session:
        job_ids = [str(job_id) for job_id in session.scalars(tried)]
    words = hasten(store, SERVICE, [jobs.id_of_message(job_id, TIER) for job_id in job_ids])
    return words.count("due")
