"""Replay, discard and edit dead letters, and drop the old ones.

A replay looks only at jobs that had died when it began, so those that die again do not keep it going.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

import msgspec

from fourlane import codec
from fourlane.errors import FourlaneError, SettingsError
from fourlane.job import JobInfo
from fourlane.queues import carry, make
from fourlane.queues.dead_letters.letters import Filter, Letter, one
from fourlane.queues.dead_letters.look import count, info_of
from fourlane.queues.dead_letters.trail import note
from fourlane.queues.dead_letters.walk import PAGE, queues_of, walk
from fourlane.queues.lines import Line, read_lines
from fourlane.queues.records import read_record, write_record
from fourlane.queues.store import Store

__all__ = ["discard", "drop_old", "edit", "replay"]

_TRIES: Final = 10


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
            names = [*keys.all, *(keys.result(letter.at.id) for letter in letters)]
            numbers[service], *replayed = store.connector.run_once("replay", names, args, keys.sent)
            done += len(replayed)
    finally:
        note(store, "replay", which, done, by)
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
        note(store, "discard", which, done, by)
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
      InvalidOption: another program wrote lines into it that are none.
    """
    carry.refuse_late()
    for _ in range(_TRIES):
        letter = one(store, job_id, queue)
        old = codec.decode(letter.body)
        sealed = codec.is_sealed(old)
        lines = read_lines(old.lines)
        if sealed:
            from fourlane.sealing import open_job

            old = open_job(old, letter.at.id)
        new = make.Draft(old.task, old.options, sealed, lines=partial(_same, lines)).body(
            letter.at.id,
            old.args if args is None else args,
            old.kwargs if kwargs is None else kwargs,
            enqueued_ms=old.enqueued_ms,
        )
        keys = store.service(letter.at.service)
        reply = store.connector.run("edit", keys.all, (letter.at.id, letter.body, new))
        if reply == 1:
            note(store, "edit", [job_id], 1, by)
            return info_of(store, letter._replace(body=new))
        # 0: it was replayed or discarded meanwhile; then one says so. -1: somebody else edited it.
    raise FourlaneError(f"dead letter {job_id} changes too fast to be edited; try again")


def _same(lines: list[Line], *_: Any) -> list[Line]:
    return lines


def drop_old(store: Store, service: str) -> int:
    """Drop those over their age or number, which otherwise go when the next job dies there. Returns how many."""
    dropped = 0
    while some := store.connector.run("trim", store.service(service).all, (store.dead_max, store.dead_ttl_ms)):
        dropped += int(some)
    return dropped


def _chosen(store: Store, which: Filter | Sequence[str], queue: str | None) -> Iterator[Letter]:
    if isinstance(which, Filter):
        return walk(store, which, latest_first=False)
    # All are looked up before the first is touched, so that a wrong id changes nothing.
    return iter([one(store, job_id, queue) for job_id in dict.fromkeys(which)])


def _services_of(store: Store, which: Filter | Sequence[str], queue: str | None) -> int:
    """In how many services dead letters lie that may be meant; 1 at least."""
    if not isinstance(which, Filter):
        return max(1, len({letter.at.service for letter in _chosen(store, which, queue)}))
    keys = [(service, store.service(service).dead[tier]) for service, tier in queues_of(store, which)]
    return max(1, len({service for service, key in keys if store.connector.command(key, "ZCARD", key)}))


def _count_of(store: Store, which: Filter | Sequence[str], queue: str | None) -> int:
    return count(store, which) if isinstance(which, Filter) else sum(1 for _ in _chosen(store, which, queue))


def _batches(letters: Iterator[Letter]) -> Iterator[tuple[str, list[Letter]]]:
    """Pieces for one script call each: of one service, in order."""
    while piece := list(islice(letters, PAGE)):
        by_service: dict[str, list[Letter]] = {}
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
