"""What operators do with event queues: look, count, send dead letters back, replay.

Redrive and replay are receive, send, delete, in this order: whatever happens between, an event is there at least once.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from fourlane.errors import InvalidEvent, NoSuchEventQueue
from fourlane.events import messages, reading
from fourlane.events.aws import Aws
from fourlane.events.messages import AGAIN, Message
from fourlane.events.names import CATEGORIES, EventQueue, parse_sqs, sqs_prefix

__all__ = ["Counts", "Filter", "Letter", "counts", "find", "move", "peek", "queues", "start_move"]

_SCAN_SECONDS: Final = 300  # how long a look hides what it has seen, so that it sees each only once


class Counts(NamedTuple):
    """What SQS says of a queue; roughly, as it does."""

    queue: EventQueue
    waiting: int
    running: int
    delayed: int
    dead: int


class Letter(msgspec.Struct, frozen=True):
    """A message as operators see it; ``id`` and ``tenant`` are the event's, empty when it cannot be read."""

    message_id: str
    id: str
    reason: str
    receives: int
    sent_ms: int
    tenant: str
    body: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages: all that is given must fit."""

    ids: frozenset[str] = frozenset()
    tenant: str = ""
    reason: str = ""
    older_than_ms: int | None = None
    newer_than_ms: int | None = None

    def fits(self, letter: Letter, now_ms: int) -> bool:
        age = now_ms - letter.sent_ms
        return (
            (not self.ids or letter.id in self.ids or letter.message_id in self.ids)
            and (not self.tenant or letter.tenant == self.tenant)
            and self.reason in letter.reason
            and (self.older_than_ms is None or age > self.older_than_ms)
            and (self.newer_than_ms is None or age < self.newer_than_ms)
        )


def queues(aws: Aws, environment: str, category: str = "") -> list[EventQueue]:
    """All event queues of an environment, or of one category; dead-letter queues are left out."""
    found: set[EventQueue] = set()
    for prefix in [category] if category else CATEGORIES:
        token = ""
        while True:
            options: dict[str, Any] = {"NextToken": token} if token else {}
            reply = aws.call("list_queues", QueueNamePrefix=sqs_prefix(environment, prefix), MaxResults=1000, **options)
            parsed = [parse_sqs(url.rpartition("/")[2]) for url in reply.get("QueueUrls", ())]
            found.update(queue for queue in parsed if queue is not None and not queue.dead)
            token = reply.get("NextToken", "")
            if not token:
                break
    return sorted(found)


def counts(aws: Aws, queue: EventQueue) -> Counts:
    """Raises NoSuchEventQueue, EventsUnavailable."""
    try:
        dead = _counts(aws, queue.dead_letters)[0]
    except NoSuchEventQueue:
        dead = 0
    return Counts(queue, *_counts(aws, queue), dead)


def _counts(aws: Aws, queue: EventQueue) -> tuple[int, int, int]:
    names = (
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed",
    )
    url = aws.call("get_queue_url", queue, QueueName=queue.sqs_name)["QueueUrl"]  # looking makes no queue
    found = aws.call("get_queue_attributes", queue, QueueUrl=url, AttributeNames=list(names))["Attributes"]
    waiting, running, delayed = (int(found[name]) for name in names)
    return waiting, running, delayed


def peek(aws: Aws, queue: EventQueue, most: int = 10) -> list[Letter]:
    """Some messages; they stay in the queue. To SQS this is a receive, and it counts towards ``maxReceiveCount``."""
    seen: list[Message] = []
    try:
        for batch in _scan(aws, queue, most):
            seen += batch
    finally:
        messages.change_visibility(aws, queue, seen, 0)
    return [_letter(message) for message in seen]


def find(aws: Aws, queue: EventQueue, which: Filter, most: int = 10_000) -> list[Letter]:
    """The messages of a dead-letter queue that fit. They stay."""
    now_ms = round(time.time() * 1000)
    return [letter for letter in peek(aws, queue, most) if which.fits(letter, now_ms)]


def move(
    aws: Aws,
    queue: EventQueue,
    which: Filter,
    *,
    rate_per_second: float | None = None,
    again: bool = False,
    on_moved: Callable[[Letter], None] = lambda letter: None,
) -> int:
    """Send dead letters of an event back to its queue, and return how many were.

    Parameters:
      queue: the event's own queue.
      rate_per_second: so many at most.
      again: handlers that had the event get it once more. Else they do not: only the others do.

    Raises:
      EventsUnavailable: what was moved before is moved, the rest is where it was.
    """
    dead, source = queue.dead_letters, queue.source
    marks = {AGAIN: f"{time.time_ns():x}"} if again else {}
    aws.url(source)  # that it is missing shall show before anything is touched
    started, moved = time.monotonic(), 0
    left: list[Message] = []
    sent: set[bytes] = set()  # one that is dead again at once shall not go round for ever
    now_ms = round(time.time() * 1000)
    try:
        for batch in _scan(aws, dead):
            left += batch
            for message in batch:
                letter = _letter(message)
                content = hashlib.sha256(message.body.encode()).digest()
                if content in sent or not which.fits(letter, now_ms):
                    continue
                if rate_per_second:
                    time.sleep(max(0.0, started + moved / rate_per_second - time.monotonic()))
                messages.send_copy(aws, source, message, marks)
                messages.delete(aws, dead, [message])
                left.remove(message)
                sent.add(content)
                moved += 1
                on_moved(letter)
    finally:
        messages.change_visibility(aws, dead, left, 0)
    return moved


def start_move(aws: Aws, queue: EventQueue, rate_per_second: int | None = None) -> str:
    """Let SQS itself move all dead letters of an event back; returns its handle for the task. No filter, no reasons.

    Raises EventsUnavailable.
    """
    arn = aws.on(queue.dead_letters, "get_queue_attributes", AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    options: dict[str, Any] = {"MaxNumberOfMessagesPerSecond": rate_per_second} if rate_per_second else {}
    handle: str = aws.call("start_message_move_task", queue.dead_letters, SourceArn=arn, **options)["TaskHandle"]
    return handle


def _scan(aws: Aws, queue: EventQueue, most: int | None = None) -> Iterator[list[Message]]:
    """Each message once: what was seen is hidden until the caller gives it back."""
    empty = 0
    ids: set[str] = set()
    # SQS asks only some of its servers for a short poll: one empty answer is no proof.
    while empty < 2 and (most is None or len(ids) < most):
        want = 10 if most is None else min(10, most - len(ids))
        found = messages.receive(aws, queue, most=want, wait_seconds=1, visibility_seconds=_SCAN_SECONDS)
        empty = 0 if found else empty + 1
        fresh = [message for message in found if message.id not in ids]
        ids.update(message.id for message in fresh)
        yield fresh


def _letter(message: Message) -> Letter:
    try:
        read = reading.read(message.body)
        event_id, tenant = read.id, read.tenant
    except InvalidEvent:
        event_id = tenant = ""
    return Letter(message.id, event_id, message.reason, message.receives, message.sent_ms, tenant, message.body)
