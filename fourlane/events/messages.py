"""Messages as they came out of SQS, and what may become of them: deleted, given back, kept longer, buried."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from fourlane.errors import EventsUnavailable
from fourlane.events.aws import BATCH, LONGEST_VISIBILITY_SECONDS, MAX_BYTES, Aws
from fourlane.events.names import EventQueue
from fourlane.telling import tell

__all__ = ["AGAIN", "REASON", "Message", "change_visibility", "delete", "in_batches", "receive", "send_copy"]

log = logging.getLogger("fourlane.events")
T = TypeVar("T")

REASON: Final = "fourlane-reason"
AGAIN: Final = "fourlane-again"  # on a replayed message: handlers that had the event get it again
_TRIES: Final = 3
_LONGEST_REASON: Final = 1_000


class Message(NamedTuple):
    """One message, received ``receives`` times so far."""

    id: str
    handle: str
    body: str
    receives: int = 1
    attributes: Mapping[str, Any] = MappingProxyType({})
    group: str = ""
    sent_ms: int = 0

    @property
    def again(self) -> str:
        return self.attribute(AGAIN)

    @property
    def reason(self) -> str:
        return self.attribute(REASON)

    def attribute(self, name: str) -> str:
        return str(self.attributes.get(name, {}).get("StringValue", ""))


def receive(
    aws: Aws, queue: EventQueue, *, most: int = BATCH, wait_seconds: int = 0, visibility_seconds: int | None = None
) -> list[Message]:
    """Take up to ten messages. Raises EventsUnavailable."""
    began = time.monotonic()
    options = {} if visibility_seconds is None else {"VisibilityTimeout": visibility_seconds}
    reply = aws.on(
        queue,
        "receive_message",
        MaxNumberOfMessages=most,
        WaitTimeSeconds=wait_seconds,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["ApproximateReceiveCount", "MessageGroupId", "SentTimestamp"],
        **options,
    )
    messages = [_message(found) for found in reply.get("Messages", ())]
    tell.received(queue.sqs_name, len(messages), time.monotonic() - began)
    return messages


def _message(found: dict[str, Any]) -> Message:
    system = found.get("Attributes", {})
    return Message(
        found["MessageId"],
        found["ReceiptHandle"],
        found["Body"],
        int(system.get("ApproximateReceiveCount", 1)),
        found.get("MessageAttributes", {}),
        system.get("MessageGroupId", ""),
        int(system.get("SentTimestamp", 0)),
    )


def delete(aws: Aws, queue: EventQueue, messages: Sequence[Message]) -> None:
    """Delete messages. What cannot be deleted comes again: that is logged, not raised."""
    _settle(aws, queue, "delete_message_batch", messages, {})


def change_visibility(aws: Aws, queue: EventQueue, messages: Sequence[Message], seconds: int) -> None:
    """Hide messages for so long from now; 0 gives them back at once. Failures are logged, not raised."""
    seconds = max(0, min(seconds, LONGEST_VISIBILITY_SECONDS))
    _settle(aws, queue, "change_message_visibility_batch", messages, {"VisibilityTimeout": seconds})


def _settle(aws: Aws, queue: EventQueue, action: str, messages: Sequence[Message], more: dict[str, int]) -> None:
    for batch in in_batches(messages):
        left, why = list(batch), ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(0.1 * attempt)
            entries = [{"Id": str(i), "ReceiptHandle": message.handle, **more} for i, message in enumerate(left)]
            try:
                failed = aws.on(queue, action, Entries=entries).get("Failed", ())
            except EventsUnavailable as error:
                why = str(error)
                if not error.passing:
                    break
                continue
            if failed:
                why = f"{failed[0].get('Code')}: {failed[0].get('Message', '')}"
            # Its receipt is no longer good: somebody else has it, or it is gone.
            left = [left[int(one["Id"])] for one in failed if not one.get("SenderFault")]
            if not left:
                break
        if why and (left or action == "delete_message_batch"):
            log.warning("%s %s: %s; the message comes again, and is known then", action, queue.sqs_name, why)


def send_copy(aws: Aws, queue: EventQueue, message: Message, marks: dict[str, str]) -> None:
    """Send the message on to another queue, its own attributes kept beside the marks. Raises EventsUnavailable."""
    attributes = {
        name: {key: value for key, value in attribute.items() if key in ("DataType", "StringValue", "BinaryValue")}
        for name, attribute in message.attributes.items()
        if name not in (REASON, AGAIN)
    }
    for name, text in marks.items():
        clean = "".join(c if c.isprintable() else " " for c in text)[:_LONGEST_REASON] or "unknown"
        attributes[name] = {"DataType": "String", "StringValue": clean}
    if len(message.body.encode()) + _size(attributes) > MAX_BYTES:
        attributes = {}  # a body of the full size leaves no room for a reason
    options: dict[str, Any] = {"MessageAttributes": attributes}
    if queue.fifo:
        mark = marks.get(AGAIN, "")
        options["MessageDeduplicationId"] = f"{message.id}-{int(queue.dead)}{mark and '-' + mark}-{message.receives}"
    if message.group:
        options["MessageGroupId"] = message.group
    aws.on(queue, "send_message", MessageBody=message.body, **options)


def _size(attributes: dict[str, dict[str, Any]]) -> int:
    return sum(
        len(name) + sum(len(v if isinstance(v, bytes) else str(v).encode()) for v in attribute.values())
        for name, attribute in attributes.items()
    )


def in_batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Lists of ten at most."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
