"""Dead letters: find, show, edit, replay, discard, and carry them to files and back.

All walks go by the time of death and never by position, so that jobs may die, be replayed or expire while a
walk is under way: nothing is met twice, nothing is passed over. A replay looks only at jobs that had died
when it began, so those that die again do not keep it going.
"""

from __future__ import annotations

import base64
import getpass
import heapq
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from fourlane import codec
from fourlane.errors import FourlaneError, InvalidName, JobNotFound, SettingsError, UnreadableJob
from fourlane.job import JobInfo, State, enqueued_at_ms, message_id_of
from fourlane.names import Tier, parse_queue
from fourlane.queues import browse, carry, make
from fourlane.queues.records import read_record, write_record
from fourlane.queues.store import Store

__all__ = [
    "AuditRecord",
    "Filter",
    "Imported",
    "Page",
    "audit",
    "count",
    "discard",
    "edit",
    "export",
    "find",
    "import_",
    "replay",
    "show",
]

_PAGE: Final = 200
_AUDIT_KEPT: Final = 10_000
_IMPORT_BYTES: Final = 4_000_000
_TRIES: Final = 10


class Filter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which dead letters. Every field that is given must fit.

    Parameters:
      queue: a queue's name.
      task: the task's name.
      tenant: on whose behalf it ran.
      reason: the word: error, rejected, expired, unknown-task or poison.
      older_than_ms: died longer ago than this.
      newer_than_ms: died less long ago than this.
    """

    queue: str | None = None
    task: str | None = None
    tenant: str | None = None
    reason: str | None = None
    older_than_ms: int | None = None
    newer_than_ms: int | None = None


class Page(msgspec.Struct, frozen=True):
    """Some dead letters, the latest first, and where the next page begins."""

    letters: list[JobInfo]
    cursor: str
    """Give it to ``find`` for the next page; empty when there is none."""


class Imported(msgspec.Struct, frozen=True):
    """What an import did."""

    taken: int
    skipped: int
    """Ids that exist already: imported before, or alive."""


class AuditRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who did what to how many dead letters."""

    who: str
    when_ms: int
    action: str
    count: int
    filter: dict[str, Any] | None = None
    ids: list[str] | None = None


class _Position(NamedTuple):
    """A place in the order of all walks: time of death, id, service."""

    died_ms: int
    id: str
    service: str


class _Letter(NamedTuple):
    at: _Position
    body: bytes
    record: bytes
    reason: bytes
    crashes: bytes


# Look -------------------------------------------------------------------------------------------------------


def find(store: Store, filter: Filter = Filter(), cursor: str = "", limit: int = 50) -> Page:
    """A page of dead letters of all queues, the latest first.

    Raises:
      InvalidName: the filter's queue is none.
      SettingsError: the cursor is not one that ``find`` gave.
    """
    letters = list(islice(_walk(store, filter, _read_cursor(cursor)), limit + 1))
    more = len(letters) > limit
    letters = letters[:limit]
    return Page([_info(store, letter) for letter in letters], _cursor(letters[-1]) if more and letters else "")


def count(store: Store, filter: Filter = Filter()) -> int:
    """How many fit. Without task, tenant and reason Redis knows; with them all dead letters of the time are read."""
    if filter.task is not None or filter.tenant is not None or filter.reason is not None:
        return sum(1 for _ in _walk(store, filter))
    low, high = _times(filter, browse.now_ms(store))
    return sum(
        store.connector.command(key, "ZCOUNT", key, low, high)
        for service, tier in _queues(store, filter)
        for key in [store.service(service).dead[tier]]
    )


def show(store: Store, job_id: str, queue: str | None = None) -> JobInfo:
    """One dead letter, with its arguments and errors. Raises JobNotFound when it is none."""
    return _info(store, _one(store, job_id, queue))


def audit(store: Store, limit: int = 100) -> list[AuditRecord]:
    """Who replayed, discarded, edited and imported, the latest first; 10,000 are kept."""
    key = store.keys.audit
    lines = store.connector.command(key, "LRANGE", key, 0, limit - 1)
    return [msgspec.json.decode(line, type=AuditRecord) for line in lines]


# Change -----------------------------------------------------------------------------------------------------


def replay(
    store: Store,
    which: Filter | Sequence[str],
    *,
    rate_per_second: float | None = None,
    by: str | None = None,
    dry_run: bool = False,
    queue: str | None = None,
) -> int:
    """Make dead letters ready again, the longest dead first. Returns how many.

    They keep their ids and their history; attempts and crashes are counted anew.

    Parameters:
      which: a filter, or ids.
      rate_per_second: spread them over time; all at once when None. The waiting is done in Redis, and what no worker
        came for in time waits again behind the others.
      by: who does it, for the audit; this user on this machine when None.
      dry_run: only count.
      queue: where to look for ids.

    Raises:
      JobNotFound: one of the ids is no dead letter; then none is replayed.
    """
    if rate_per_second is not None and not rate_per_second > 0:
        raise SettingsError(f"the rate must be over 0 a second, not {rate_per_second:g}")
    if dry_run:
        return _count_of(store, which, queue)
    carry.refuse_late()
    step_ms = 1000 / rate_per_second if rate_per_second else 0.0
    began = time.monotonic()
    at_ms = -step_ms  # since then, when the job before goes
    done = 0
    numbers: dict[str, int] = {}  # the replay's in each service
    try:
        chosen = _chosen(store, which, queue)
        # After a stall the services share the rate.
        step = f"{step_ms * _services_of(store, which, queue):.3f}" if step_ms else ""
        for service, letters in _batches(chosen):
            elapsed_ms = (time.monotonic() - began) * 1000
            args: list[Any] = [step, numbers.get(service, 0)]
            for letter in letters:
                at_ms = max(at_ms + step_ms, elapsed_ms)
                args += (letter.at.id, letter.at.died_ms, round(at_ms - elapsed_ms), _counted_anew(letter.record))
            keys = store.service(service)
            # How it ended is not how it will end: until it runs, who waits is told by its state.
            kept = [keys.result(letter.at.id) for letter in letters]
            store.connector.command(kept[0], "DEL", *kept)
            numbers[service], *replayed = store.connector.run_once("replay", keys.all, args, keys.sent)
            done += len(replayed)
    finally:
        _note(store, "replay", which, done, by)
    return done


def discard(
    store: Store,
    which: Filter | Sequence[str],
    *,
    by: str | None = None,
    dry_run: bool = False,
    queue: str | None = None,
) -> int:
    """Drop dead letters for good. Returns how many. Parameters and errors are those of replay."""
    if dry_run:
        return _count_of(store, which, queue)
    carry.refuse_late()
    done = 0
    try:
        for service, letters in _batches(_chosen(store, which, queue)):
            ids = [letter.at.id for letter in letters]
            keys = store.service(service)
            done += int(store.connector.run_once("discard", keys.all, ids, keys.sent)[0])
    finally:
        _note(store, "discard", which, done, by)
    return done


def edit(
    store: Store,
    job_id: str,
    *,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    by: str | None = None,
    queue: str | None = None,
) -> JobInfo:
    """Give a dead letter other arguments, so that a replay may succeed. What is None stays.

    Raises:
      JobNotFound: it is no dead letter, or is none any more.
      UnreadableJob: its body cannot be read, so there is nothing to keep the rest of.
      InvalidArguments, JobTooLarge: as at enqueueing.
      EncryptionError: its arguments are encrypted, and the key is not here.
      Reject: they were tampered with.
    """
    carry.refuse_late()
    for _ in range(_TRIES):
        letter = _one(store, job_id, queue)
        old = codec.decode(letter.body)
        sealed = codec.is_sealed(old)
        if sealed:
            from fourlane.sealing import open_job

            old = open_job(old, letter.at.id)
        new = make.Draft(old.task, old.options, sealed).body(
            letter.at.id,
            old.args if args is None else args,
            old.kwargs if kwargs is None else kwargs,
            enqueued_ms=old.enqueued_ms,
        )
        keys = store.service(letter.at.service)
        reply = store.connector.run("edit", keys.all, (letter.at.id, letter.body, new))
        if reply == 1:
            _note(store, "edit", [job_id], 1, by)
            return _info(store, letter._replace(body=new))
        # 0: it was replayed or discarded meanwhile; then _one says so. -1: somebody else edited it.
    raise FourlaneError(f"dead letter {job_id} changes too fast to be edited; try again")


# Files ------------------------------------------------------------------------------------------------------


def export(store: Store, filter: Filter = Filter()) -> Iterator[str]:
    """Dead letters as lines of JSON, the longest dead first; ``import_`` takes them in any environment."""
    for letter in _walk(store, filter, latest_first=False):
        reason, _, detail = letter.reason.decode(errors="replace").partition("\n")
        line: dict[str, Any] = {
            "id": letter.at.id,
            "queue": f"jobs.{Tier(int(letter.at.id[0])).word}.{letter.at.service}",
            "died_at_ms": letter.at.died_ms,
            "reason": reason,
            "detail": detail,
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
            if len(waiting[service]) >= _PAGE * len(fields) or sizes[service] > _IMPORT_BYTES:
                taken += flush(service)
        for service in list(waiting):
            taken += flush(service)
    finally:
        if given:
            _note(store, "import", None, taken, by)
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
        read = _decode_line(line)
        queue = parse_queue(read.queue, store.environment)
    except (msgspec.DecodeError, InvalidName) as error:
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


# The walk ---------------------------------------------------------------------------------------------------


def _walk(
    store: Store,
    filter: Filter,
    after: _Position | None = None,
    *,
    latest_first: bool = True,
) -> Iterator[_Letter]:
    """Dead letters of all queues in the order of their deaths, without those that die from now on."""
    low, high = _times(filter, browse.now_ms(store))
    walks = [
        _walk_queue(store, service, tier, low, high, after, latest_first) for service, tier in _queues(store, filter)
    ]
    for letter in heapq.merge(*walks, key=lambda letter: letter.at, reverse=latest_first):
        if _fits(filter, letter):
            yield letter


def _walk_queue(
    store: Store, service: str, tier: Tier, low: int, high: int, after: _Position | None, latest_first: bool
) -> Iterator[_Letter]:
    while places := _next_places(store, service, tier, low, high, after, latest_first):
        after = places[-1]
        if latest_first:
            high = min(high, after.died_ms)
        else:
            low = max(low, after.died_ms)
        yield from _read(store, service, places)


def _next_places(
    store: Store, service: str, tier: Tier, low: int, high: int, after: _Position | None, latest_first: bool
) -> list[_Position]:
    """The next places after one. Those of the same millisecond are read again, and left out."""
    key = store.service(service).dead[tier]
    if after is not None:
        low, high = (low, min(high, after.died_ms)) if latest_first else (max(low, after.died_ms), high)
    offset = 0
    while True:
        bounds = ("ZREVRANGEBYSCORE", key, high, low) if latest_first else ("ZRANGEBYSCORE", key, low, high)
        reply = browse.scored(store.connector.command(key, *bounds, "WITHSCORES", "LIMIT", offset, _PAGE))
        places = [_Position(died_ms, job_id, service) for job_id, died_ms in reply]
        if after is not None:
            places = [place for place in places if (place < after if latest_first else place > after)]
        if places or len(reply) < _PAGE:
            return places
        offset += _PAGE


def _read(store: Store, service: str, places: Sequence[_Position]) -> Iterator[_Letter]:
    keys = store.service(service)
    ids = [place.id for place in places]
    kept = [
        store.connector.command(key, "HMGET", key, *ids)
        for key in (keys.jobs, keys.records, keys.reasons, keys.crashes)
    ]
    for place, body, record, reason, crashes in zip(places, *kept, strict=True):
        if body is not None:  # else it went since we read its place
            yield _Letter(place, body, record or b"", reason or b"", crashes or b"")


def _fits(filter: Filter, letter: _Letter) -> bool:
    if filter.reason is not None and letter.reason.partition(b"\n")[0].decode(errors="replace") != filter.reason:
        return False
    if filter.task is None and filter.tenant is None:
        return True
    try:
        envelope = codec.decode(letter.body)
    except UnreadableJob:
        envelope = codec.Envelope("")
    tenant = str(envelope.options.get("tenant") or "")
    return filter.task in (None, envelope.task) and filter.tenant in (None, tenant)


def _times(filter: Filter, now: int) -> tuple[int, int]:
    low = 0 if filter.newer_than_ms is None else now - filter.newer_than_ms
    high = now if filter.older_than_ms is None else now - filter.older_than_ms
    return low, high


def _queues(store: Store, filter: Filter) -> list[tuple[str, Tier]]:
    if filter.queue is not None:
        place = browse.queue_of(store, filter.queue)
        return [(place.service, place.tier)]
    return [(service, tier) for service in store.services() for tier in Tier]


def _one(store: Store, job_id: str, queue: str | None) -> _Letter:
    for service, stored_id in browse.locate(store, job_id, queue):
        key = store.service(service).dead[int(stored_id[0])]
        died = store.connector.command(key, "ZSCORE", key, stored_id)
        if died is not None:
            for letter in _read(store, service, [_Position(int(float(died)), stored_id, service)]):
                return letter
    raise JobNotFound(f"there is no dead letter {job_id!r}{f' in {queue}' if queue else ''}")


def _chosen(store: Store, which: Filter | Sequence[str], queue: str | None) -> Iterator[_Letter]:
    if isinstance(which, Filter):
        return _walk(store, which, latest_first=False)
    # All are looked up before the first is touched, so that a wrong id changes nothing.
    return iter([_one(store, job_id, queue) for job_id in dict.fromkeys(which)])


def _services_of(store: Store, which: Filter | Sequence[str], queue: str | None) -> int:
    """In how many services dead letters lie that may be meant; 1 at least."""
    if not isinstance(which, Filter):
        return max(1, len({letter.at.service for letter in _chosen(store, which, queue)}))
    keys = [(service, store.service(service).dead[tier]) for service, tier in _queues(store, which)]
    return max(1, len({service for service, key in keys if store.connector.command(key, "ZCARD", key)}))


def _count_of(store: Store, which: Filter | Sequence[str], queue: str | None) -> int:
    return count(store, which) if isinstance(which, Filter) else sum(1 for _ in _chosen(store, which, queue))


def _batches(letters: Iterator[_Letter]) -> Iterator[tuple[str, list[_Letter]]]:
    """Pieces for one script call each: of one service, in order."""
    while piece := list(islice(letters, _PAGE)):
        by_service: dict[str, list[_Letter]] = {}
        for letter in piece:
            by_service.setdefault(letter.at.service, []).append(letter)
        yield from by_service.items()


def _counted_anew(record: bytes) -> bytes:
    """The record for another life: errors and options stay, what counts towards death does not."""
    known = read_record(record)
    options = {name: value for name, value in known.options.items() if name not in {"retries", "traceback"}}
    return write_record(
        msgspec.structs.replace(known, attempts=0, options=options, unknown_since_ms=0, replays=known.replays + 1)
    )


def _info(store: Store, letter: _Letter) -> JobInfo:
    return browse.job_info(
        store,
        letter.at.service,
        letter.at.id,
        State.DEAD,
        body=letter.body,
        record=letter.record,
        reason=letter.reason,
        crashes=letter.crashes,
        died_at_ms=letter.at.died_ms,
    )


def _cursor(letter: _Letter) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(letter.at)).decode().rstrip("=")


def _read_cursor(text: str) -> _Position | None:
    if not text:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=_Position)
    except (ValueError, msgspec.DecodeError):
        raise SettingsError(f"{text!r} is no cursor; take the one that the page before gave") from None


def _note(store: Store, action: str, which: Filter | Sequence[str] | None, done: int, by: str | None) -> None:
    """Write the audit record."""
    record = AuditRecord(
        who=by or _this_user(),
        when_ms=browse.now_ms(store),
        action=action,
        count=done,
        filter=msgspec.to_builtins(which) if isinstance(which, Filter) else None,
        ids=[message_id_of(i) for i in which[:100]] if which and not isinstance(which, Filter) else None,
    )
    key = store.keys.audit
    store.connector.run("audit", [key], (msgspec.json.encode(record), _AUDIT_KEPT))


def _this_user() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container's user without a name
        return f"?@{socket.gethostname()}"
