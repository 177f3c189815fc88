"""Dead letters as files: out of one environment, and into another."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from fourlane.errors import InvalidName, UnreadableJob
from fourlane.job import enqueued_at_ms
from fourlane.names import Tier, parse_queue
from fourlane.queues import carry
from fourlane.queues.dead_letters.letters import Filter
from fourlane.queues.dead_letters.trail import note
from fourlane.queues.dead_letters.walk import PAGE, walk
from fourlane.queues.store import Store

__all__ = ["Imported", "export", "import_"]

_IMPORT_BYTES: Final = 4_000_000


class Imported(msgspec.Struct, frozen=True):
    """What an import did."""

    taken: int
    skipped: int
    """Ids that exist already: imported before, or alive."""


def export(store: Store, filter: Filter = Filter()) -> Iterator[str]:
    """Dead letters as lines of JSON, the longest dead first; ``import_`` takes them in any environment."""
    for letter in walk(store, filter, latest_first=False):
        line: dict[str, Any] = {
            "id": letter.at.id,
            "queue": f"jobs.{Tier(int(letter.at.id[0])).word}.{letter.at.service}",
            "died_at_ms": letter.at.died_ms,
            "reason": letter.word,
            "detail": letter.detail,
        }
        line |= _portable("body", letter.body) | (_portable("record", letter.record) if letter.record else {})
        yield msgspec.json.encode(line).decode()


def import_(store: Store, lines: Iterable[str | bytes], *, by: str | None = None) -> Imported:
    """Take in what ``export`` wrote. Ids that exist are skipped, so that an import may be repeated.

    Raises:
      UnreadableJob: a line is none of export's; the message has its number. Lines before it may be in.
    """
    carry.refuse_late()
    taken = given = 0
    waiting: dict[str, list[Any]] = {}
    sizes: dict[str, int] = {}

    def flush(service: str) -> int:
        jobs = waiting.pop(service)
        del sizes[service]
        store.announce(service)
        keys = store.service(service)
        return len(store.connector.run_once("bury", keys.all, (store.dead_max, store.dead_ttl_ms, *jobs), keys.sent))

    try:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            service, fields = _read_line(store, number, line)
            waiting.setdefault(service, []).extend(fields)
            sizes[service] = sizes.get(service, 0) + len(line)
            given += 1
            if len(waiting[service]) >= PAGE * len(fields) or sizes[service] > _IMPORT_BYTES:
                taken += flush(service)
        for service in list(waiting):
            taken += flush(service)
    finally:
        if given:
            note(store, "import", None, taken, by)
    return Imported(taken, given - taken)


class _Line(msgspec.Struct):
    id: str
    queue: str
    died_at_ms: int
    reason: str
    detail: str = ""
    body: msgspec.Raw = msgspec.Raw()
    body_base64: bytes = b""
    record: msgspec.Raw = msgspec.Raw()
    record_base64: bytes = b""


_decode_line = msgspec.json.Decoder(_Line).decode


def _read_line(store: Store, number: int, line: str | bytes) -> tuple[str, tuple[Any, ...]]:
    try:
        read = _decode_line(line if isinstance(line, str) else line.decode())
        queue = parse_queue(read.queue, store.environment)
    except (msgspec.DecodeError, InvalidName, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableJob(f"line {number}: {error}") from None
    body = bytes(read.body) or read.body_base64
    fits = read.id[:1] == str(int(queue.tier)) and "|" not in read.id and read.id.isprintable()
    if not fits or not (enqueued_at_ms(read.id) is not None or (read.id[1:2] == "." and 2 < len(read.id) < 203)):
        raise UnreadableJob(f"line {number}: {read.id!r} is no id of a job in {read.queue}")
    if not body or read.died_at_ms < 0:
        raise UnreadableJob(f"line {number}: it has no body, or no time of death")
    record = bytes(read.record) or read.record_base64
    return queue.service, (read.id, body, f"{read.reason}\n{read.detail}", record, read.died_at_ms)


def _portable(name: str, data: bytes) -> dict[str, Any]:
    """Bytes as JSON where they are JSON, for people to read; what cannot be read is carried all the same."""
    try:
        msgspec.json.decode(data)
        data.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {f"{name}_base64": base64.b64encode(data).decode()}
    # A line must stay one: JSON may have line breaks between its tokens, though no writer of ours puts any.
    return {name: msgspec.Raw(data)} if b"\n" not in data else {f"{name}_base64": base64.b64encode(data).decode()}
