"""Reads what running jobs say: output as it grows, log lines, progress (written by journal.py)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from fourlane.errors import ResultTimeout, UnreadableResult
from fourlane.queues.store import Store

__all__ = ["SEALED_BEGINS", "Piece", "Progress", "read_log", "read_output", "read_progress"]

SEALED_BEGINS: Final = b"\x01"
"""How a log line or a progress of an encrypted job begins, and no other."""

_WAIT_MS = 1_000
_PIECES = 200


class Piece(NamedTuple):
    """A piece of a job's output.

    Parameters:
      restart: the job began anew with this piece; what came before is void.
    """

    text: str
    restart: bool = False


class Progress(msgspec.Struct, frozen=True):
    """How far a job is: ``done`` from 0 to 1."""

    done: float
    text: str = ""
    at_ms: int = 0


def read_progress(store: Store, service: str, job_id: str, *, is_sealed: bool = False) -> Progress | None:
    """Raises EncryptionError, UnreadableResult.

    Parameters:
      is_sealed: the job is known to be encrypted, so that nothing in plain is believed; here and below.
    """
    key = store.service(service).progress(job_id)
    data = store.connector.command(key, "GET", key)
    if not data:
        return None
    try:
        return msgspec.json.decode(_opened(job_id, "progress", data, is_sealed), type=Progress)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableResult(f"what is kept as job {job_id}'s progress cannot be read: {error}") from None


def read_log(store: Store, service: str, job_id: str, *, is_sealed: bool = False) -> list[str]:
    """Raises EncryptionError."""
    key = store.service(service).log(job_id)
    lines = store.connector.command(key, "LRANGE", key, 0, -1)
    return [_opened(job_id, "log", line, is_sealed).decode("utf-8", "replace") for line in lines]


def read_output(
    store: Store,
    service: str,
    job_id: str,
    *,
    ended: Callable[[], bool],
    timeout_seconds: float | None,
    is_sealed: bool = False,
) -> Iterator[Piece]:
    """Pieces from the first one on; ends when the job said so, or is over. Raises EncryptionError, UnreadableResult."""
    key = store.service(service).output(job_id)
    link = store.connector.open(key)
    last, run, over = b"0", b"", False
    heard_at = time.monotonic()
    try:
        while True:
            # Asked before reading: what was written until the end is then read after it.
            wait = () if over else ("BLOCK", _WAIT_MS)
            reply = link.command("XREAD", "COUNT", _PIECES, *wait, "STREAMS", key, last)
            entries = _entries(reply)
            for place, fields in entries:
                last = place
                if len(fields) != 4:
                    raise UnreadableResult(f"what is kept as job {job_id}'s output cannot be read")
                _, by, kind, text = fields
                restart, run = bool(run) and by != run, by
                if kind == b"end":
                    return
                if kind == b"sealed" or is_sealed:
                    text = _opened(job_id, "output", text, is_sealed)
                yield Piece(text.decode("utf-8", "replace"), restart)
            if entries:
                heard_at = time.monotonic()
                continue
            if over:
                return
            over = ended()
            if not over and timeout_seconds is not None and time.monotonic() - heard_at >= timeout_seconds:
                raise ResultTimeout(f"no output of job {job_id} within {timeout_seconds:g} s")
    finally:
        link.close()


def _opened(job_id: str, what: str, data: bytes, is_sealed: bool) -> bytes:
    """Raises EncryptionError."""
    if data[:1] != SEALED_BEGINS and not is_sealed:
        return data
    from fourlane.sealing import Seal

    return Seal(job_id, strict=is_sealed).open(what, data)


def _entries(reply: object) -> list[tuple[bytes, list[bytes]]]:
    """The entries of the one stream, as protocol 2 or 3 gives them."""
    if not reply:
        return []
    streams = list(reply.values()) if isinstance(reply, dict) else [pair[1] for pair in reply]  # type: ignore[attr-defined]
    return [(entry[0], list(entry[1])) for entry in streams[0]]
