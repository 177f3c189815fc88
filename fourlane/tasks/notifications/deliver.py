"""The tasks that send, one for each channel, each with queues of its own: ``jobs.*.notifications-email`` and so on.

One run of a job:

1. Check its arguments. What is wrong with them stays wrong: a dead letter at once.
2. Record it, and ask preferences, dead addresses, quiet hours and the user's limit (``Ledger.decide``).
3. Write the words, call the provider, with the record's id as idempotency key.
4. Record how that ended.

A run that is killed after 2 leaves a record that says ``sending``. The next run repeats the call only as the provider
can tell it from a new one, see ``fourlane.providers.messages``.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

import msgspec

from fourlane.errors import EncryptionError, FourlaneError, RateLimited, Reject, SettingsError, Snooze
from fourlane.job import new_id
from fourlane.retry import Backoff
from fourlane.tasks.notifications.notification import (
    CHANNELS,
    Channel,
    InvalidNotification,
    Notification,
    address_of,
    checked,
)
from fourlane.tasks.notifications.setup import Setup, configure, setup
from fourlane.tasks.task import Task, current_job, task
from fourlane.tasks.webhooks.judging import judge

if TYPE_CHECKING:
    from fourlane.providers.messages import Carrier, Message, NotTaken
    from fourlane.tasks.notifications.ledger import Decision, Ledger

__all__ = [
    "TASKS",
    "SendFailed",
    "Sent",
    "Setup",
    "configure",
    "email",
    "pagerduty",
    "push",
    "sendable",
    "setup",
    "slack",
    "sms",
]

_MAX_RETRIES: Final = 5
_JOB_TIMEOUT_MS: Final = 90_000
_OUR_FAULT: Final = (InvalidNotification, SettingsError, EncryptionError)
# Resend forgets a key after 24 hours; whoever may have taken a message longer ago is not asked again.
_KEY_LIFE: Final = timedelta(hours=12)


class SendFailed(FourlaneError):
    """The provider did not take it this time; the job is tried again."""


class Sent(TypedDict):
    """The result of a send.

    status: ``sent``, ``suppressed`` (nobody wanted it), ``duplicate`` (another job sends it) or ``collected``.
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
    if given.template:
        sample = given if not given.digest else _with_items(given, [given.data])
        setup().templates().words(sample, {"unsubscribe_url": ""})
    return given


def _declare(channel: Channel) -> Task[..., Sent]:
    def check(*args: Any, digest_id: str | None = None, **fields: Any) -> None:
        if args:
            raise InvalidNotification("give the fields of a notification by their names, e.g. to=… text=…")
        if digest_id is None:  # else it was checked when it was collected
            sendable(channel, fields)

    @task(
        name=f"fourlane.notifications.{channel}",
        service=f"notifications-{channel}",
        tier="P1",
        max_retries=_MAX_RETRIES,
        backoff=Backoff(min_ms=1_000, max_ms=300_000),
        timeout_ms=_JOB_TIMEOUT_MS,
        result_ttl_ms=86_400_000,
        share=0.75,  # it waits on others' servers
        check=check,
    )
    def send(*, digest_id: str | None = None, **fields: Any) -> Sent:
        return _run(channel, fields, None if digest_id is None else uuid.UUID(digest_id))

    return send


email: Final = _declare("email")
sms: Final = _declare("sms")
push: Final = _declare("push")
slack: Final = _declare("slack")
pagerduty: Final = _declare("pagerduty")
TASKS: Final[Mapping[Channel, Task[..., Sent]]] = dict(zip(CHANNELS, (email, sms, push, slack, pagerduty), strict=True))


def _run(channel: Channel, fields: Mapping[str, Any], digest_id: uuid.UUID | None) -> Sent:
    job_id = _job_id()
    try:
        notification = checked(channel, fields)
        if notification.digest and digest_id is None:
            return _collect(channel, notification, job_id)
        ledger, carrier = setup().ledger(), setup().carrier(channel)
        if digest_id is not None:
            items = ledger.digests.close(digest_id)
            if not items:
                return _result("suppressed", digest_id, reason="the digest was sent, or has nothing in it")
            notification = _with_items(notification, items)
        now = datetime.now(UTC)
        decision = ledger.decide(
            channel, notification, provider=carrier.provider, job_id=job_id, now=now, digest_id=digest_id
        )
    except _OUR_FAULT as error:
        raise Reject(str(error)) from None
    if decision.verdict == "over":
        return _result(decision.status, decision.record_id, decision.message_id, decision.reason)
    if decision.verdict == "wait":
        assert decision.at is not None
        raise Snooze(max(decision.at - now, timedelta(seconds=1)))
    return _send(channel, notification, decision, ledger, carrier)


def _send(channel: Channel, notification: Notification, decision: Decision, ledger: Ledger, carrier: Carrier) -> Sent:
    from fourlane.providers.messages import Impossible, NotTaken, Unclear

    record_id = decision.record_id
    if decision.tried_at is not None and datetime.now(UTC) - decision.tried_at > _KEY_LIFE:
        # The record stays as it is, so that no replay forgets how long ago that was.
        raise Reject(f"whether it was sent at {decision.tried_at:%Y-%m-%d %H:%M} UTC is not known")

    def not_sent(status: Literal["pending", "failed"], error: BaseException) -> None:
        # What an earlier attempt left open stays open, whatever became of this one, and so does when that was.
        if decision.since is None:
            ledger.not_sent(record_id, status=status, error=str(error))

    try:
        message = _message(channel, notification)
        receipt = setup().guard(
            carrier.target(message), lambda: carrier.send(message, key=str(record_id), since=decision.since)
        )
    except _OUR_FAULT as error:
        not_sent("failed", error)
        raise Reject(str(error)) from None
    except RateLimited as error:  # nobody was called, or the provider said that it is too much
        not_sent("pending", error.__cause__ or error)
        raise
    except Impossible as error:
        not_sent("failed", error)
        if error.address_is_dead:
            ledger.suppress(channel, address_of(channel, notification.to), reason="bounce", detail=str(error))
        raise Reject(str(error)) from None
    except NotTaken as error:
        later = _retry_after(error)
        given_up = later is None and _is_last_attempt()
        not_sent("failed" if given_up else "pending", error)
        raise (SendFailed(str(error)) if later is None else RateLimited(later)) from None
    except Unclear as error:
        ledger.not_sent(record_id, status="sending", error=str(error))
        raise SendFailed(f"{error}; whether it was sent is not known") from None
    ledger.sent(record_id, message_id=receipt.message_id, now=datetime.now(UTC))
    return _result("sent", record_id, receipt.message_id)


def _collect(channel: Channel, notification: Notification, job_id: str) -> Sent:
    collected = setup().ledger().digests.collect(channel, notification, job_id=job_id)
    if collected.is_first or not collected.is_new:
        # Also when this job runs again: it may have been killed before it came here. One job too many finds nothing.
        TASKS[channel].send_with_options(
            kwargs=notification.fields() | {"digest_id": str(collected.record_id)}, eta=collected.closes_at
        )
    return _result("collected", collected.record_id)


def _with_items(notification: Notification, items: list[dict[str, Any]]) -> Notification:
    return msgspec.structs.replace(notification, data={"items": items})


def _message(channel: Channel, notification: Notification) -> Message:
    from fourlane.providers.messages import Message

    link = setup().unsubscribe_url(channel, notification)
    words = setup().templates().words(notification, {"unsubscribe_url": link})
    headers = {"List-Unsubscribe": f"<{link}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"} if link else {}
    return Message(
        to=notification.to,
        subject=words.subject,
        text=words.text,
        html=words.html,
        headers=headers if channel == "email" else {},
        urgent=notification.urgent,
        severity=notification.severity,
        source=notification.source,
        details=notification.details,
        incident=notification.incident,
        resolved=notification.resolved,
    )


def _retry_after(error: NotTaken) -> float | None:
    """The seconds that the provider asked for."""
    if error.response is None:
        return None
    after_ms = judge(error.response, now_seconds=time.time()).after_ms
    return None if after_ms is None else after_ms / 1000


def _is_last_attempt() -> bool:
    job = current_job()
    return job is not None and job.attempt > _MAX_RETRIES


def _job_id() -> str:
    job = current_job()
    return job.id if job is not None else new_id(1, int(time.time() * 1000))  # called as a plain function


def _result(status: str, record_id: uuid.UUID, message_id: str = "", reason: str = "") -> Sent:
    # The same word in every run: "delivered" would depend on when it is asked.
    status = "sent" if status in ("delivered", "bounced", "complained") else status
    return Sent(status=status, record_id=str(record_id), message_id=message_id, reason=reason)
