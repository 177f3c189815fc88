"""Data too large for SQS lies in S3; the envelope carries a reference to it and its hash."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

import msgspec

from fourlane.errors import EventTooLarge, InvalidEvent
from fourlane.events.aws import Aws
from fourlane.events.envelope import Envelope
from fourlane.events.names import EventName

__all__ = ["fetch", "store"]


def store(aws: Aws, bucket: str, envelope: Envelope, event: EventName, environment: str, limit: int) -> Envelope:
    """Put the data into the bucket and return the envelope without it.

    Raises:
      EventTooLarge: there is no bucket.
      EventsUnavailable: S3 does not take it.
    """
    data = envelope.json_data
    if not bucket:
        raise EventTooLarge(
            f"event {event}: the data has {len(data):,} bytes, with its envelope over the limit of {limit:,}; set "
            "FOURLANE_EVENTS_BUCKET to offload large events to S3, or publish a reference to the data"
        )
    key = f"{environment}/events/{event.category}/{event.type}/{envelope.time[:10]}/{envelope.unique_id}.json"
    aws.put_object(bucket, key, data)
    return msgspec.structs.replace(
        envelope,
        data=msgspec.UNSET,
        dataref=f"s3://{bucket}/{key}",
        datasha256=hashlib.sha256(data).hexdigest(),
    )


def fetch(aws: Aws, bucket: str, envelope: Envelope) -> Envelope:
    """The envelope with its data. Only from our own bucket: an event must not choose what we read with our rights.

    Raises:
      InvalidEvent: the object is gone, or is not what was published.
      EventsUnavailable: S3 does not answer.
    """
    where = urlsplit(envelope.dataref)
    if where.scheme != "s3" or not where.netloc or not where.path.strip("/"):
        raise InvalidEvent(f"the envelope's dataref {envelope.dataref!r} is no s3://BUCKET/KEY")
    if where.netloc != bucket:
        raise InvalidEvent(f"{envelope.dataref} is not in FOURLANE_EVENTS_BUCKET ({bucket or 'not set'})")
    data = aws.get_object(where.netloc, where.path.lstrip("/"))
    if data is None:
        raise InvalidEvent(f"{envelope.dataref} is gone; does the bucket's lifecycle rule end before the queue's time?")
    if hashlib.sha256(data).hexdigest() != envelope.datasha256:
        raise InvalidEvent(f"{envelope.dataref} is not what was published: its SHA-256 differs")
    return msgspec.structs.replace(envelope, data=msgspec.Raw(data), dataref="", datasha256="")
