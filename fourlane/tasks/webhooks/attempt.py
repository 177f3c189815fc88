"""One attempt to deliver: the request, and what its end means for the job."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

import dramatiq.errors

from fourlane.errors import Foreseen, Reject
from fourlane.tasks.context import current_job
from fourlane.tasks.webhooks.judging import judge
from fourlane.tasks.webhooks.loading import client, ready
from fourlane.tasks.webhooks.policy import PRIVATE_BY, InvalidEndpoint, Policy, check_url, policy
from fourlane.tasks.webhooks.signing import signed
from fourlane.telling import tell

if TYPE_CHECKING:
    from fourlane.providers import http

__all__ = ["Delivered", "DeliveryFailed", "attempt", "id_here", "raise_for", "send"]

_log = logging.getLogger("fourlane.webhooks")


class DeliveryFailed(Foreseen):
    """The receiver did not take the webhook this time; the job is tried again."""


class Delivered(TypedDict):
    """The result of a delivery: the status, the beginning of the body, and how long the call took."""

    status: int
    body: str
    elapsed_ms: int


def id_here() -> str:
    """A ``webhook-id``: that of the job, the same in each of its attempts."""
    job = current_job()
    return job.id if job is not None else f"msg_{uuid.uuid4().hex}"  # called as a plain function


async def attempt(
    url: str,
    payload: Any,
    *,
    webhook_id: str,
    secret: str | None = None,
    headers: Mapping[str, str] | None = None,
    by: Policy | None = None,
) -> Delivered:
    """Deliver once; arguments and errors are those of `deliver`."""
    await ready(client, policy)
    secrets = [] if secret is None else [secret]
    body, sent = signed(payload, webhook_id=webhook_id, at_seconds=int(time.time()), secrets=secrets, headers=headers)
    response = await send(url, body, sent, by or policy())
    raise_for(response)
    return Delivered(
        status=response.status,
        body=response.body.decode("utf-8", errors="replace"),
        elapsed_ms=round(response.elapsed_ms),
    )


async def send(url: str, body: bytes, headers: Mapping[str, str], by: Policy) -> http.Response:
    """Make one attempt.

    Raises:
      Reject: the address is refused.
      DeliveryFailed: no answer came.
    """
    from fourlane.providers import http

    try:
        check_url(url, by)
        response = await http.apost(
            url,
            body=body,
            headers=headers,
            timeout_seconds=by.timeout_seconds,
            allow_private=by.allow_private,
        )
    except (http.TargetRefused, InvalidEndpoint) as error:
        raise Reject(f"refused: {error}") from error
    except http.TransportError as error:
        tell.counted("webhook_deliveries", (error.reason,))
        if error.detail:  # in the log alone: who named the host may read the error
            _log.warning("webhook: %s", http.explained(error, PRIVATE_BY))
        raise DeliveryFailed(str(error)) from error
    finally:
        if current_job() is None:  # called plainly, on a loop that may end now
            await http.aclose()
    tell.counted("webhook_deliveries", (str(response.status),))
    return response


def raise_for(response: http.Response) -> None:
    """Return when the answer means that the webhook was taken; else raise as `deliver` does."""
    judgement = judge(response, now_seconds=time.time())
    if judgement.verdict == "dead":
        raise Reject(judgement.reason)
    if judgement.verdict == "retry" and judgement.after_ms is not None:
        raise dramatiq.errors.Retry(judgement.reason, delay=judgement.after_ms)
    if judgement.verdict == "retry":
        raise DeliveryFailed(judgement.reason)
