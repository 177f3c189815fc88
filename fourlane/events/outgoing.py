"""Makes messages of events, as SQS takes them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from fourlane.errors import InvalidEvent
from fourlane.events import catalogue, envelope, offload
from fourlane.events.aws import BATCH, Aws
from fourlane.events.envelope import Envelope
from fourlane.events.names import EventQueue, parse_event

__all__ = ["Outgoing", "Writer", "batches"]

_LONGEST_SQS_DELAY_SECONDS: Final = 900
_LONGEST_DELAY_SECONDS: Final = 315_360_000
_TOKEN: Final = re.compile(r"[!-~]{1,128}")  # what SQS takes for the ids of groups


class Outgoing(NamedTuple):
    """A message that can be sent, and the size of its body."""

    id: str
    queue: EventQueue
    entry: dict[str, Any]
    size: int


@dataclass(frozen=True, slots=True)
class Writer:
    """Checks events and writes their messages; what is too large for one goes to S3.

    Parameters:
      environment: the first word of every event's name.
      source: CloudEvents' ``source``: who publishes.
      bucket: for data over the size limit; without one such data is refused.
      max_bytes: the size limit of a message.
    """

    aws: Aws
    environment: str
    source: str
    bucket: str
    max_bytes: int

    def write(
        self,
        name: str,
        data: Any,
        *,
        trace: tuple[str, str],
        tenant: str = "",
        key: str = "",
        id: str = "",
        time: datetime | None = None,
        delay: timedelta | float | None = None,
    ) -> Outgoing:
        """Raises InvalidName, InvalidEvent, EventTooLarge, EventsUnavailable: S3 does not take it."""
        event = parse_event(name, self.environment)
        kind = catalogue.of(event)
        seconds = _seconds(delay)
        by_sqs = seconds <= _LONGEST_SQS_DELAY_SECONDS and not kind.fifo  # FIFO queues delay as a whole only
        written = envelope.write(
            event,
            kind.to_json(data),
            environment=self.environment,
            source=self.source,
            version=kind.version,
            id=id,
            tenant=tenant,
            key=key,
            time=time,
            deliver_at=None if by_sqs else datetime.now(UTC) + timedelta(seconds=seconds),
            trace=trace,
        )
        body = envelope.wire(written)
        if len(body.encode()) > self.max_bytes:
            written = offload.store(self.aws, self.bucket, written, event, self.environment, self.max_bytes)
            body = envelope.wire(written)
        entry = {"MessageBody": body} | _groups(written, key=(key or str(event)) if kind.fifo else "")
        if by_sqs and seconds:
            entry["DelaySeconds"] = round(seconds)
        return Outgoing(written.id, EventQueue(self.environment, event, kind.fifo), entry, len(body.encode()))


def _groups(written: Envelope, *, key: str) -> dict[str, Any]:
    """With a ``key``, of a FIFO queue: what comes after what. Else: whose turn it is."""
    if key:
        return {"MessageGroupId": _token(key), "MessageDeduplicationId": _token(written.unique_id)}
    return {"MessageGroupId": _token(written.tenant)} if written.tenant else {}


def batches(outgoing: Iterable[Outgoing], max_bytes: int) -> Iterator[list[Outgoing]]:
    """As many as one call takes, for one queue each, in their order."""
    batch: list[Outgoing] = []
    size = 0
    for one in outgoing:
        if batch and (len(batch) == BATCH or size + one.size > max_bytes or one.queue != batch[0].queue):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.size
    if batch:
        yield batch


def _seconds(delay: timedelta | float | None) -> float:
    if delay is None:
        return 0.0
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if not isinstance(seconds, (int, float)) or not 0 <= seconds <= _LONGEST_DELAY_SECONDS:
        raise InvalidEvent(f"delay must be 0 or more seconds, or a timedelta, up to ten years, not {delay!r:.100}")
    return float(seconds)


def _token(text: str) -> str:
    return text if _TOKEN.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()
