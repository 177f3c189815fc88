"""Reads events as they come, from our own publishers and from others: every structured JSON form of CloudEvents 1.0.

Of the optional attributes any may be missing or null. An event that does not say when it happened did when it was sent;
one without data has the data null. ``data_base64`` is taken too, where JSON is what it holds.
"""

from __future__ import annotations

import base64
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from fourlane.errors import InvalidEvent, InvalidName
from fourlane.events.envelope import JSON, Envelope, milliseconds, stamp
from fourlane.names import check_tenant

__all__ = ["read"]

_JSON_TYPE: Final = re.compile(r"(application|text)/json|[^/\s]+/[^/\s]+\+json", re.IGNORECASE)
_LONGEST_DELAY: Final = timedelta(days=3_660)  # what publishers may ask for, and a little
_NULL: Final = b"null"
_NEVER_UNSET: Final = ("specversion", "id", "source", "type", "data")
_decode = msgspec.json.Decoder(Envelope).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def read(body: str | bytes, sent_ms: int = 0) -> Envelope:
    """What was received, in the form in which we write it.

    Parameters:
      sent_ms: when it was sent; 0: now.

    Raises InvalidEvent.
    """
    try:
        envelope = _decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        envelope = _decode_without_nulls(body, error)
    if envelope.specversion != "1.0":
        raise InvalidEvent(f"CloudEvents {envelope.specversion!r} is not known here, only 1.0")
    if not envelope.id or not envelope.source:
        raise InvalidEvent("the envelope has no id, or no source")
    if envelope.datacontenttype != JSON:
        _check_kind(envelope)
        envelope.datacontenttype = JSON
    if not envelope.dataref and (envelope.data_base64 or not envelope.json_data):
        _place_data(envelope)
    if not envelope.time:
        envelope.time = stamp(datetime.fromtimestamp(sent_ms / 1000 if sent_ms else time.time(), UTC))
    _check(envelope)
    return envelope


def _decode_without_nulls(body: str | bytes, first: Exception) -> Envelope:
    """Optional attributes that are null are not set. Raises InvalidEvent, with the first error where there are none."""
    try:
        members = _decode_members(body)
        given = {name: value for name, value in members.items() if bytes(value) != _NULL or name in _NEVER_UNSET}
        if len(given) < len(members):
            return _decode(msgspec.json.encode(given))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        first = error
    raise InvalidEvent(f"this is no CloudEvents 1.0 JSON: {first}") from None


def _check_kind(envelope: Envelope) -> None:
    kind = envelope.datacontenttype
    if kind and not _JSON_TYPE.fullmatch(kind.partition(";")[0].strip()):
        raise InvalidEvent(f"data of the kind {kind!r:.200} cannot be read, only {JSON}")


def _place_data(envelope: Envelope) -> None:
    if envelope.data_base64 and envelope.json_data:
        raise InvalidEvent("the envelope has both data and data_base64")
    data = _NULL
    if envelope.data_base64:
        try:
            data = base64.b64decode(envelope.data_base64, validate=True)
            msgspec.json.decode(data)  # it becomes a part of the envelope
        except (ValueError, RecursionError) as error:
            raise InvalidEvent(f"the envelope's data_base64 cannot be read as JSON: {error}") from None
    envelope.data, envelope.data_base64 = msgspec.Raw(data), ""


def _check(envelope: Envelope) -> None:
    """What is to be kept of it must be good for that."""
    _ = milliseconds(envelope.time, "time")
    if envelope.deliverat:
        longest = datetime.now(UTC) + _LONGEST_DELAY
        if envelope.deliver_at_ms > longest.timestamp() * 1000:
            raise InvalidEvent(f"the envelope's deliverat {envelope.deliverat!r:.100} is over ten years away")
    if envelope.tenant:
        try:
            check_tenant(envelope.tenant)
        except InvalidName as error:
            raise InvalidEvent(f"the envelope's tenant: {error}") from None
