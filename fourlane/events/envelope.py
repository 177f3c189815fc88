"""An event on its way: a CloudEvents 1.0 JSON envelope, and what a handler sees of it.

Beside the standard attributes it carries these extensions: ``partitionkey`` (the key), ``traceparent`` and
``tracestate``, ``dataref`` (where large data lies) with ``datasha256``, and of our own ``tenant``, ``schemaversion``
and ``deliverat`` (not to be handled before). How others' are read: reading.py.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from fourlane.errors import InvalidEvent
from fourlane.events import catalogue
from fourlane.events.names import EventName, parse_event

__all__ = ["JSON", "Envelope", "Event", "milliseconds", "new_id", "stamp", "wire", "write"]

JSON: Final = "application/json"
_PLAIN_ID: Final = re.compile(r"[0-9a-f-]{32,36}")
_MAX_ID: Final = 200
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class Envelope(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The envelope. ``type`` is the event's full name, times are RFC 3339; those that we write have one."""

    specversion: str
    id: str
    source: str
    type: str
    time: str = ""
    datacontenttype: str = ""
    subject: str = ""
    schemaversion: str = ""
    tenant: str = ""
    partitionkey: str = ""
    deliverat: str = ""
    traceparent: str = ""
    tracestate: str = ""
    dataref: str = ""
    datasha256: str = ""
    data_base64: str = ""
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    @property
    def json_data(self) -> bytes:
        """The data as JSON; empty when it lies elsewhere."""
        return b"" if isinstance(self.data, msgspec.UnsetType) else bytes(self.data)

    @property
    def unique_id(self) -> str:
        """What tells this event from all others: CloudEvents makes ids unique within a source only."""
        if _PLAIN_ID.fullmatch(self.id):  # random or a hash, as ours are: readable as it is
            return self.id
        return hashlib.sha256(f"{self.source}\n{self.id}".encode()).hexdigest()[:32]

    def name(self, environment: str) -> EventName:
        """Which event it is. Raises InvalidEvent."""
        try:
            return parse_event(self.type, environment)
        except ValueError as error:
            raise InvalidEvent(f"the envelope's type: {error}") from None

    @property
    def job_options(self) -> dict[str, str]:
        """What the jobs that it makes carry of it."""
        found = {"tenant": self.tenant, "traceparent": self.traceparent, "tracestate": self.tracestate}
        return {name: value for name, value in found.items() if value}

    @property
    def time_ms(self) -> int:
        return milliseconds(self.time, "time")

    @property
    def deliver_at_ms(self) -> int:
        """Milliseconds since the epoch before which it shall not be handled; 0 for at once."""
        return milliseconds(self.deliverat, "deliverat") if self.deliverat else 0


_encode = msgspec.json.Encoder().encode


def new_id() -> str:
    """An id for an event."""
    return str(uuid.uuid4())


def write(
    event: EventName,
    data: bytes,
    *,
    environment: str,
    source: str,
    version: str,
    id: str = "",
    tenant: str = "",
    key: str = "",
    time: datetime | None = None,
    deliver_at: datetime | None = None,
    trace: tuple[str, str] = ("", ""),
) -> Envelope:
    """An envelope around data that is JSON already. Raises InvalidEvent."""
    if not isinstance(key, str) or any("\ud800" <= letter <= "\udfff" for letter in key):
        raise InvalidEvent(f"event {event}: key must be a text that can be sent, not {key!r:.100}")
    if not isinstance(id, str) or len(id) > _MAX_ID or not id.isprintable():
        raise InvalidEvent(f"event {event}: {id!r} is no id: 1 to {_MAX_ID} printable characters")
    return Envelope(
        specversion="1.0",
        id=id or new_id(),
        source=source,
        type=event.full(environment),
        time=stamp(time or datetime.now(UTC)),
        datacontenttype=JSON,
        schemaversion=version,
        tenant=tenant,
        partitionkey=key,
        deliverat=stamp(deliver_at) if deliver_at else "",
        traceparent=trace[0],
        tracestate=trace[1],
        data=msgspec.Raw(data),
    )


def stamp(moment: datetime) -> str:
    """RFC 3339, in UTC, to the millisecond."""
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise InvalidEvent(f"the time {moment} needs a time zone, such as datetime.now(UTC)")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def wire(envelope: Envelope) -> str:
    """What is sent. SQS refuses two characters that JSON allows; they are written as escapes."""
    text = _encode(envelope).decode()
    if "\ufffe" in text or "\uffff" in text:
        text = text.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")
    return text


def milliseconds(text: str, what: str) -> int:
    """Since the epoch. Raises InvalidEvent."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment.astimezone(UTC) - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):  # of the first or the last year, elsewhere in the world
        raise InvalidEvent(f"the envelope's {what} {text!r:.100} is no RFC 3339 time") from None


@dataclass(frozen=True, slots=True)
class Event:
    """What a handler is given.

    Attributes:
      id, source: together unique.
      name: e.g. ``platform.user-signup``.
      time: when it happened.
      data: an instance of the declared model, or plain data when none is declared.
      tenant, key: as published, else empty.
      schema_version: of the data, as the publisher declared it.
      traceparent, tracestate: W3C trace context, else empty.
    """

    id: str
    source: str
    name: str
    time: datetime
    data: Any
    tenant: str = ""
    key: str = ""
    schema_version: str = ""
    traceparent: str = ""
    tracestate: str = ""

    @classmethod
    def of(cls, envelope: Envelope, name: EventName) -> Event:
        """Reads and checks the data. Raises InvalidEvent."""
        return cls(
            id=envelope.id,
            source=envelope.source,
            name=str(name),
            time=_EPOCH + envelope.time_ms * _MILLISECOND,
            data=catalogue.of(name).from_json(envelope.json_data),
            tenant=envelope.tenant,
            key=envelope.partitionkey,
            schema_version=envelope.schemaversion,
            traceparent=envelope.traceparent,
            tracestate=envelope.tracestate,
        )
