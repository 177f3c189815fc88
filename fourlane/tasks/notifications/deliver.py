"""The tasks that send, one for each channel, each with queues of its own: ``jobs.*.notifications-email`` and so on.

One run of a job:

1. Check its arguments. What is wrong with them stays wrong: a dead letter at once.
2. Record it, and ask preferences, dead addresses, quiet hours and the user's limit (``Ledger.decide``).
3. Write the words, call the provider, with the record's id as idempotency key.
4. Record how that ended (ending.py).

A run that is killed after 2 leaves a record that says ``sending``. The next run repeats the call only as the provider
can tell it from a new one, see ``fourlane.providers.messages``. Many emails in one job: bulk.py.
"""

from __future__ import annotations

import dataclasses
import re
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypedDict

from fourlane.errors import Reject, Snooze
from fourlane.job import new_id
from fourlane.names import Tier
from fourlane.retry import Backoff
from fourlane.tasks.notifications.ending import MAX_RETRIES, OUR_FAULT, SendFailed, check_age, recorded
from fourlane.tasks.notifications.message import check_words, message_of, with_items
from fourlane.tasks.notifications.notification import CHANNELS, Channel, InvalidNotification, Notification, checked
from fourlane.tasks.notifications.setup import Setup, configure, setup
from fourlane.tasks.task import Task, current_job, task

if TYPE_CHECKING:
    from fourlane.providers.messages import Carrier, Receipt
    from fourlane.tasks.notifications.ledger import Decision, Ledger
    from fourlane.tasks.notifications.records import Order

__all__ = [
    "JOB_TIMEOUT_MS",
    "TASKS",
    "SendFailed",
    "Sent",
    "Setup",
    "configure",
    "email",
    "job_id",
    "order_of",
    "pagerduty",
    "push",
    "result",
    "sendable",
    "setup",
    "slack",
    "sms",
]

JOB_TIMEOUT_MS: Final = 90_000
_PART: Final = re.compile(r"[\w-]{1,100}:\d{1,6}", re.ASCII)


class Sent(TypedDict):
    """The result of a send.

    status: ``sent``, ``suppressed`` (nobody wanted it), ``duplicate`` (another job sends it), ``collected``; of one of
      many also ``alone`` (a job of its own sends it) or ``failed``.
    """

    status: str
    record_id: str
    message_id: str
    reason: str


def sendable(channel: str, fields: Mapping[str, Any]) -> Notification:
    """The notification of these fields, when all of it that can be known now is right.

    Raises:
      InvalidNotification: an address that is none, no such template, a variable that is missing, and the like.
      SettingsError: a setting or a package for it is missing.
    """
    given = checked(channel, fields)
    check_words(given)
    return given


def _declare(channel: Channel) -> Task[..., Sent]:
    def check(*args: Any, digest_id: str | None = None, part_of: str = "", **fields: Any) -> None:
        if args:
            raise InvalidNotification("give the fields of a notification by their names, e.g. to=… text=…")
        if digest_id is None:  # else it was checked when it was collected
            sendable(channel, fields)

    @task(
        name=f"fourlane.notifications.{channel}",
        service=f"notifications-{channel}",
        tier="P1",
        max_retries=MAX_RETRIES,
        backoff=Backoff(min_ms=1_000, max_ms=300_000),
        timeout_ms=JOB_TIMEOUT_MS,
        result_ttl_ms=86_400_000,
        share=0.75,  # it waits on others' servers
        check=check,
    )
    def send(*, digest_id: str | None = None, part_of: str = "", **fields: Any) -> Sent:
        return _run(channel, fields, None if digest_id is None else uuid.UUID(digest_id), part_of)

    return send


email: Final = _declare("email")
sms: Final = _declare("sms")
push: Final = _declare("push")
slack: Final = _declare("slack")
pagerduty: Final = _declare("pagerduty")
TASKS: Final[Mapping[Channel, Task[..., Sent]]] = dict(zip(CHANNELS, (email, sms, push, slack, pagerduty), strict=True))


def order_of(channel: Channel, fields: Mapping[str, Any], *, part_of: str = "", provider: str = "") -> Order:
    """What the job that runs here is to send. Raises InvalidNotification."""
    from fourlane.tasks.notifications.records import Order

    notification = checked(channel, fields)
    if part_of and not _PART.fullmatch(part_of):
        raise InvalidNotification(f"{part_of[:200]!r} is no part of a job")
    tenant = _tenant(notification)
    return Order(
        channel=channel,
        notification=notification,
        job_id=job_id(),
        tenant=tenant,
        provider=provider,
        part_of=part_of,
    )


def _tenant(notification: Notification) -> str:
    """On whose behalf it is sent. A tenant's job may not speak for another."""
    job = current_job()
    of_job = job.tenant if job is not None else ""
    own = str(notification.organization_id or "")
    if own and of_job and own != of_job.lower():
        raise InvalidNotification(f"the job is on behalf of {of_job!r}, and its notification on behalf of {own}")
    return own or of_job


def _run(channel: Channel, fields: Mapping[str, Any], digest_id: uuid.UUID | None, part_of: str) -> Sent:
    try:
        order = order_of(channel, fields, part_of=part_of)
        if order.notification.digest and digest_id is None:
            return _collect(order)
        ledger, carrier = setup().ledger(), setup().carrier(channel)
        if digest_id is not None:
            items = ledger.digests.close(digest_id, tenant=order.tenant)
            if not items:
                return result("suppressed", digest_id, reason="the digest was sent, or has nothing in it")
            order = dataclasses.replace(order, notification=with_items(order.notification, items))
        order = dataclasses.replace(order, provider=carrier.provider, record_id=digest_id)
        now = datetime.now(UTC)
        decision = ledger.decide(order, now=now)
    except OUR_FAULT as error:
        raise Reject(str(error)) from None
    if decision.verdict == "over":
        return result(decision.status, decision.record_id, decision.message_id, decision.reason)
    if decision.verdict == "wait":
        assert decision.at is not None
        raise Snooze(max(decision.at - now, timedelta(seconds=1)))
    receipt = _send(order, decision, ledger, carrier)
    ledger.sent({decision.record_id: receipt.message_id}, now=datetime.now(UTC))
    return result("sent", decision.record_id, receipt.message_id)


def _send(order: Order, decision: Decision, ledger: Ledger, carrier: Carrier) -> Receipt:
    from fourlane.providers.messages import Impossible

    check_age(decision.tried_at, datetime.now(UTC))
    with recorded(ledger, [decision.record_id], is_open=decision.since is not None):
        message = message_of(order, urgent=_is_urgent())
        key = str(decision.record_id)
        try:
            return setup().guard(carrier.target(message), lambda: carrier.send(message, key=key, since=decision.since))
        except Impossible as error:
            if error.dead is not None:
                ledger.suppress(order.channel, order.address, reason=error.dead, detail=str(error))
            raise


def _collect(order: Order) -> Sent:
    collected = setup().ledger().digests.collect(order)
    if collected.is_first or not collected.is_new:
        # Also when this job runs again: it may have been killed before it came here. One job too many finds nothing.
        TASKS[order.channel].send_with_options(
            kwargs=order.notification.fields() | {"digest_id": str(collected.record_id)},
            eta=collected.closes_at,
            tenant=order.tenant,
        )
    return result("collected", collected.record_id)


def _is_urgent() -> bool:
    """Whether it waits for its turn rather than to come again: those of the highest tier do."""
    job = current_job()
    return job is not None and f".{Tier.P0.word}." in job.queue


def job_id() -> str:
    job = current_job()
    return job.id if job is not None else new_id(1, int(time.time() * 1000))  # called as a plain function


def result(status: str, record_id: uuid.UUID | None, message_id: str = "", reason: str = "") -> Sent:
    # The same word in every run: "delivered" would depend on when it is asked.
    status = "sent" if status in ("delivered", "bounced", "complained") else status
    return Sent(status=status, record_id=str(record_id or ""), message_id=message_id, reason=reason)
