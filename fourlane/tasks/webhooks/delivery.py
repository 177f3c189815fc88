"""Webhooks to one address, retried after 1, 2 and 4 seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import dramatiq.errors

from fourlane.queues.guards import Lines
from fourlane.tasks.context import current_job
from fourlane.tasks.task import task
from fourlane.tasks.webhooks.attempt import Delivered, attempt, id_here
from fourlane.tasks.webhooks.lines import lines_of_delivery, receiver_line
from fourlane.tasks.webhooks.policy import BACKOFF, JOB_MS, MAX_RETRIES, SERVICE

__all__ = ["deliver"]


@task(
    name="fourlane.webhooks.deliver",
    service=SERVICE,
    tier="P1",
    max_retries=MAX_RETRIES,
    backoff=BACKOFF,
    timeout_ms=JOB_MS,
    result_ttl_ms=86_400_000,
    share=0.5,  # it waits on others' servers
    lines=lines_of_delivery,
)
async def deliver(
    url: str,
    payload: Any,
    *,
    secret: str | None = None,
    event_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Delivered:
    """POST a payload to a receiver as JSON.

    At least once: an answer that is lost on its way leads to a second delivery, under the same
    ``webhook-id``, by which the receiver can tell.

    Parameters:
      payload: anything that JSON can hold.
      secret: base64, with or without ``whsec_`` before it; without a secret nothing is signed. It is an
        argument like any other, so it lies in Redis in the job's body, until the job is gone: turn on
        the encryption of arguments where that matters.
      event_id: the ``webhook-id``, the same in every attempt; the job's id unless given.
      headers: sent too, e.g. ``Authorization``.

    Raises:
      Reject: it can never succeed: a wrong secret, a refused address, an answer such as 404 or 410.
      dramatiq.errors.Retry: the receiver said when to come again; until then nothing else of this tenant goes there.
      DeliveryFailed: no answer, or one that may change, such as 503.
    """
    try:
        return await attempt(url, payload, webhook_id=event_id or id_here(), secret=secret, headers=headers)
    except dramatiq.errors.Retry as error:
        job = current_job()
        if job is not None and error.delay:
            lines = Lines(deliver.broker.store)
            await asyncio.to_thread(lines.close, SERVICE, receiver_line(url, job.tenant), error.delay)
        raise
