"""Many emails in one job, which go to their provider together: a hundred in one request, where it takes so many.

1. Decide of each, as for a single one. What must wait, has files or is urgent gets a job of its own; so do all where
   the provider takes one at a time.
2. Those that may go are given a batch, in one transaction: the batch's name is the idempotency key of its request.
3. Call, and record what became of all of them, in one transaction again.

A run that is killed between 2 and 3 leaves a batch whose end nobody saw. The next run sends the same batch again, with
the same emails in it, also with those of which the provider has told meanwhile. What a batch refuses of itself gets a
job of its own too, which says why, and is a dead letter if need be.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from fourlane.errors import Reject
from fourlane.names import Tier
from fourlane.retry import Backoff
from fourlane.tasks.notifications.deliver import JOB_TIMEOUT_MS, TASKS, Sent, job_id, order_of, result, sendable
from fourlane.tasks.notifications.ending import MAX_RETRIES, OUR_FAULT, check_age, recorded
from fourlane.tasks.notifications.message import message_of
from fourlane.tasks.notifications.notification import InvalidNotification, Notification
from fourlane.tasks.notifications.setup import setup
from fourlane.tasks.task import current_job, task

if TYPE_CHECKING:
    from fourlane.providers.messages import BatchCarrier, Impossible, Message, Receipt
    from fourlane.tasks.notifications.ledger import Decision, Ledger
    from fourlane.tasks.notifications.records import Order

__all__ = ["MOST", "emails"]

MOST: Final = 100
"""Emails in one job."""


def _check(*args: Any, notifications: Any = (), **others: Any) -> None:
    if args or others or not isinstance(notifications, list):
        raise InvalidNotification("give notifications=…, a list of the fields of each")
    if not 1 <= len(notifications) <= MOST:
        raise InvalidNotification(f"a job takes 1 to {MOST} emails, not {len(notifications)}")
    for place, fields in enumerate(notifications):
        try:
            sendable("email", fields)
        except InvalidNotification as error:
            raise InvalidNotification(f"number {place}: {error}") from None


@dataclass(frozen=True, slots=True)
class _Member:
    """One of the job's emails that goes out, or may have gone, with others."""

    place: int
    order: Order
    message: Message
    decision: Decision


@task(
    name="fourlane.notifications.emails",
    service="notifications-email",
    tier="P1",
    max_retries=MAX_RETRIES,
    backoff=Backoff(min_ms=1_000, max_ms=300_000),
    timeout_ms=JOB_TIMEOUT_MS,
    result_ttl_ms=86_400_000,
    share=0.75,  # as a single one
    check=_check,
)
def emails(*, notifications: list[dict[str, Any]]) -> list[Sent]:
    """Send many emails. What became of each, in their order."""
    from fourlane.providers.messages import BatchCarrier

    try:
        ledger, carrier = setup().ledger(), setup().carrier("email")
    except OUR_FAULT as error:
        raise Reject(str(error)) from None
    told: dict[int, Sent] = {}
    members: list[_Member] = []
    for place, fields in enumerate(notifications):
        try:
            order = order_of("email", fields, part_of=f"{job_id()}:{place}", provider=carrier.provider)
            if not isinstance(carrier, BatchCarrier) or not _may_join(order.notification):
                told[place] = _alone(order)
                continue
            found = _look(place, order, ledger)
        except InvalidNotification as error:  # since it was enqueued: the others are not at fault
            told[place] = result("failed", None, reason=str(error))
            continue
        if isinstance(found, _Member):
            members.append(found)
        else:
            told[place] = found
    if isinstance(carrier, BatchCarrier):
        told |= _send_all(members, ledger, carrier)
    return [told[place] for place in range(len(notifications))]


def _may_join(notification: Notification) -> bool:
    return not (notification.attachments or notification.digest or notification.urgent)


def _look(place: int, order: Order, ledger: Ledger) -> _Member | Sent:
    """What becomes of one: it goes out with others, or this is its end here."""
    message = message_of(order)
    decision = ledger.decide(order, now=datetime.now(UTC))
    if decision.verdict == "go" or decision.batch:
        return _Member(place, order, message, decision)
    if decision.verdict == "wait":
        return _alone(order, decision)
    return _over(decision)


def _over(decision: Decision) -> Sent:
    return result(decision.status, decision.record_id, decision.message_id, decision.reason)


def _alone(order: Order, decision: Decision | None = None) -> Sent:
    """Give it a job of its own. One job too many finds that it was sent."""
    job = current_job()
    tier = next((tier for tier in Tier if job is not None and f".{tier.word}." in job.queue), None)
    TASKS["email"].send_with_options(
        kwargs=order.notification.fields() | {"part_of": order.part_of},
        eta=None if decision is None else decision.at,
        tier=tier,
        tenant=order.tenant,
    )
    return result("alone", None if decision is None else decision.record_id)


def _send_all(members: Sequence[_Member], ledger: Ledger, carrier: BatchCarrier) -> dict[int, Sent]:
    """Send each batch; those that have none yet are one. Raises Reject when it was tried with all."""
    told: dict[int, Sent] = {}
    rejected: Reject | None = None
    for batch in dict.fromkeys(member.decision.batch for member in members):
        some = [member for member in members if member.decision.batch == batch]
        try:
            told |= _send(batch, some, ledger, carrier)
        except Reject as error:  # another batch may be well
            rejected = error
    if rejected is not None:
        raise rejected
    return told


def _send(batch: str, members: Sequence[_Member], ledger: Ledger, carrier: BatchCarrier) -> dict[int, Sent]:
    """What became of each. Those that are over are sent again with the others of their batch, as they were before.

    Parameters:
      batch: empty when they go out for the first time.
    """
    from fourlane.providers.messages import Letter

    going = [member for member in members if member.decision.verdict == "go"]
    if not going:
        return {member.place: _over(member.decision) for member in members}
    ids = [member.decision.record_id for member in going]
    key = batch or uuid.uuid4().hex
    if batch:
        check_age(going[0].decision.tried_at, datetime.now(UTC))
    else:
        ledger.join(ids, key)
    letters = [Letter(str(member.decision.record_id), member.message) for member in members]
    with recorded(ledger, ids, is_open=bool(batch)):
        outcomes = setup().guard(carrier.target(letters[0].message), lambda: carrier.send_batch(letters, key=key))
    return _settle(members, outcomes, ledger)


def _settle(members: Sequence[_Member], outcomes: Sequence[Receipt | Impossible], ledger: Ledger) -> dict[int, Sent]:
    """Record what became of all at once: a batch of which only some were known could not be sent again."""
    receipts: dict[uuid.UUID, str] = {}
    refused: dict[uuid.UUID, str] = {}
    told: dict[int, Sent] = {}
    for member, outcome in zip(members, outcomes, strict=True):
        record_id = member.decision.record_id
        if isinstance(outcome, Exception):
            refused[record_id] = str(outcome)
        else:
            receipts[record_id] = outcome.message_id
            told[member.place] = result("sent", record_id, outcome.message_id)
    ledger.sent(receipts, refused=refused, now=datetime.now(UTC))
    return told | {member.place: _alone(member.order) for member in members if member.decision.record_id in refused}
