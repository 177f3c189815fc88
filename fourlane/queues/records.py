"""A job's record: the attempts that failed, and what they changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from fourlane import job
from fourlane.later import LATER

__all__ = ["failed_again", "options_of_retry", "read_record", "retried_as", "write_record"]

_record_decoder = msgspec.json.Decoder(job.Record)
_encode_record = msgspec.json.Encoder(enc_hook=str).encode


_KEPT_ELSEWHERE: Final = LATER | {"traceback"}
"""In the body, which no retry changes, and among the errors."""


def options_of_retry(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a message that is tried again, or was, but for what is kept elsewhere."""
    return {name: value for name, value in options.items() if name not in _KEPT_ELSEWHERE}


def read_record(data: bytes) -> job.Record:
    """A job's record; an empty one when there is none or it cannot be read."""
    if not data:
        return job.Record()
    try:
        return _record_decoder.decode(data)
    except Exception:
        return job.Record()


def failed_again(data: bytes) -> job.Record:
    """The record of a job that has spent one more attempt."""
    record = read_record(data)
    record.attempts += 1
    return record


def retried_as(data: bytes, options: Mapping[str, Any]) -> job.Record:
    """The record of a job in whose place a middleware enqueued a message with these options."""
    record = read_record(data)
    record.attempts = int(options.get("retries", record.attempts + 1))
    record.options = options_of_retry(options)
    return record


def write_record(record: job.Record, attempt: job.Attempt | None = None) -> bytes:
    """The record as bytes, with one more failed attempt. The first errors and the last are kept, 20 in all."""
    if attempt is not None:
        errors = [*record.errors, attempt]
        if len(errors) > 20:
            errors = errors[:5] + errors[-15:]
        record = msgspec.structs.replace(record, errors=errors)
    return _encode_record(record)
