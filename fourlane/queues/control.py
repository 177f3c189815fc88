"""What operators change while jobs run: pauses, limits, cancelling, purging.

Pauses and limits of a service are one JSON text beside its jobs (keys.py: "!"), replaced by compare-and-set,
so that two operators at once cannot undo each other. Workers see a change at their next lease.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from fourlane import codec
from fourlane.errors import FourlaneError, SettingsError, UnreadableJob
from fourlane.job import State
from fourlane.names import Queue, Tier, parse_queue
from fourlane.outcome import WAITERS_MS
from fourlane.queues import carry, ended
from fourlane.queues.browse import locate, queue_of
from fourlane.queues.limit import Limit, read_limits
from fourlane.queues.store import Store

__all__ = ["cancel", "clear", "declare_limits", "limits", "pause", "purge", "resume", "rewrite", "set_limit"]

_TRIES: Final = 50
_NEVER_RAN: Final = "it was cancelled before it ran"
_Change = Callable[[Limit], Limit]


def pause(store: Store, queue: Queue | str) -> bool:
    """Let no further job of this queue start; what runs goes on. False when it was paused already."""
    return _change(store, queue, lambda limit: msgspec.structs.replace(limit, paused=True))


def resume(store: Store, queue: Queue | str) -> bool:
    """End a pause. False when there was none."""
    return _change(store, queue, lambda limit: msgspec.structs.replace(limit, paused=False))


def limits(store: Store) -> dict[str, Limit]:
    """Every queue that is paused or limited, by its full name."""
    found: dict[str, Limit] = {}
    for service in store.services():
        for tier, limit in sorted(read_limits(_read(store, service)).items()):
            if tier in {"0", "1", "2", "3"}:
                found[Queue(service, Tier(int(tier))).name(store.environment)] = limit
    return found


def declare_limits(
    store: Store, declared: Mapping[str, Any], source: str, *, services: Collection[str] | None = None
) -> None:
    """Make the limits that settings or tasks declare those of the queues, in place of what they declared before.

    What an operator set at run time stays as it is, and so do pauses.

    Parameters:
      declared: queue name → an object with rate, per_ms, burst and concurrency.
      services: whose earlier limits go when they are not declared any more; of all services when None.
    """
    wanted = {parse_queue(name, store.environment): figures for name, figures in declared.items()}
    for name, limit in limits(store).items():
        queue = parse_queue(name, store.environment)
        if limit.source == source and queue not in wanted and (services is None or queue.service in services):
            _change(store, queue, partial(_declared, None, source))
    for queue, figures in wanted.items():
        _change(store, queue, partial(_declared, figures, source))


def _declared(figures: Any, source: str, present: Limit) -> Limit:
    if present.source == "runtime" or (present.source == "settings" and source == "task"):
        return present
    if figures is None:
        return Limit(paused=present.paused)
    return Limit(
        paused=present.paused,
        rate=figures.rate,
        per_ms=(figures.per_ms or 1_000) if figures.rate else None,
        burst=figures.burst,
        concurrency=figures.concurrency,
        source=source,
    )


def set_limit(
    store: Store,
    queue: Queue | str,
    *,
    rate: int | None = None,
    per_ms: int | None = None,
    burst: int | None = None,
    concurrency: int | None = None,
    source: str = "runtime",
) -> Limit:
    """Limit a queue. What is not given stays as it is.

    Parameters:
      rate: jobs that may start in ``per_ms``.
      per_ms: milliseconds; 1,000 when neither this call nor an earlier one says otherwise.
      burst: jobs that may start together after a quiet time; as many as ``rate`` by default.
      concurrency: jobs that may run at once, over all workers.
      source: who says so: runtime, settings or task.

    Raises:
      SettingsError: a figure is below 1, or ``per_ms`` or ``burst`` comes without a rate.
    """
    given = {"rate": rate, "per_ms": per_ms, "burst": burst, "concurrency": concurrency}
    figures = {name: figure for name, figure in given.items() if figure is not None}
    if not figures:
        raise SettingsError("give a rate or a concurrency")
    result = Limit()

    def change(limit: Limit) -> Limit:
        nonlocal result
        result = msgspec.structs.replace(limit, source=source, **figures)
        if result.rate is not None and result.per_ms is None:
            result = msgspec.structs.replace(result, per_ms=1_000)
        result.check()
        return result

    _change(store, queue, change)
    return result


def clear(store: Store, queue: Queue | str) -> bool:
    """Remove a queue's limits; a pause stays. False when there were none."""
    return _change(store, queue, lambda limit: Limit(paused=limit.paused))


def rewrite(store: Store, service: str) -> None:
    """Count again what runs under a service's limits: leases from before a limit was known count too."""
    _replace(store, service, lambda text: text)


def cancel(
    store: Store, job_id: str, queue: Queue | str | None = None, *, has_callbacks: Callable[[str], bool] | None = None
) -> State:
    """Cancel a job. Returns the state it was in.

    Parameters:
      has_callbacks: whether a task of this name declares ``on_failure`` or the like, or may do; without it only those
        that the job itself was sent with are told.

    RUNNING means that its worker is told; whether the task heeds it is the task's matter, but the job does
    not run again. CANCELLED means that it was cancelled before, UNKNOWN that there is no such job.
    """
    carry.refuse_late()
    state = State.UNKNOWN
    for service, stored_id in locate(store, job_id, queue):
        keys = store.service(service)
        body = store.connector.command(keys.jobs, "HGET", keys.jobs, stored_id) or b""
        told = _telling(stored_id, body, has_callbacks)
        waiters = b"" if told is None else ended.for_waiters(_NEVER_RAN, cancelled=True)
        state = _cancel(store, service, stored_id, told or b"", waiters)
        if state is not State.UNKNOWN:
            break
    return state


def _telling(job_id: str, body: bytes, has_callbacks: Callable[[str], bool] | None) -> bytes | None:
    """The body of the job that tells its callbacks; empty when it has none, None when nobody is to be told."""
    try:
        envelope = codec.decode(body)
    except UnreadableJob:
        return None  # nobody can have been promised anything of it
    options = envelope.options
    calls = "on_failure" in options or "on_retry_exhausted" in options
    calls = calls or (has_callbacks is not None and has_callbacks(envelope.task))
    return ended.body_of_cancelled(job_id, _NEVER_RAN, body) if calls else b""


def purge(store: Store, queue: Queue | str) -> int:
    """Drop a queue's ready and delayed jobs; what runs and the dead letters stay. Returns how many went.

    Stops after as many as there were at the start, so that a busy producer cannot keep it going for ever.
    """
    carry.refuse_late()
    place = queue_of(store, queue)
    keys = store.service(place.service)
    tier, command = int(place.tier), store.connector.command
    most = command(keys.jobs, "LLEN", keys.ready[tier]) + command(keys.jobs, "ZCARD", keys.delayed)
    dropped = skip = done = 0
    while not done and dropped + skip < most:
        some, passed, done = store.connector.run_once("purge", keys.all, (tier, skip), keys.sent)
        dropped += some
        skip += passed
    return dropped


def _cancel(store: Store, service: str, job_id: str, telling: bytes, waiters: bytes) -> State:
    keys = store.service(service)
    for _ in range(_TRIES):
        names = store.lease_names(service)
        touched = [*keys.all, *map(keys.leased, names), keys.cancelled(job_id), keys.result(job_id)]
        args = (job_id, telling, waiters, WAITERS_MS, *names)
        (state,) = store.connector.run_once("cancel", touched, args, keys.sent)
        if state != b"again":
            return State(state.decode())
    raise _too_busy(service)


def _change(store: Store, queue: Queue | str, change: _Change) -> bool:
    carry.refuse_late()
    place = queue_of(store, queue)
    tier = str(int(place.tier))

    def edit(text: bytes) -> bytes:
        now = read_limits(text)
        before = now.get(tier, Limit())
        after = change(before)
        if after == before:
            return text
        now[tier] = after
        kept = {t: limit for t, limit in sorted(now.items()) if limit != Limit()}
        return msgspec.json.encode(kept) if kept else b""

    return _replace(store, place.service, edit)


def _replace(store: Store, service: str, edit: Callable[[bytes], bytes]) -> bool:
    """Replace the text by compare-and-set. An equal text is written too where there is one: see rewrite."""
    keys = store.service(service)
    for _ in range(_TRIES):
        old = _read(store, service)
        new = edit(old)
        if not old and not new:
            return False
        if not old:
            store.announce(service)  # a queue may be paused before its first job
        names = store.lease_names(service)
        if store.connector.run("control", [*keys.all, *map(keys.leased, names)], (old, new, *names)):
            return new != old
    raise _too_busy(service)


def _read(store: Store, service: str) -> bytes:
    key = store.service(service).jobs
    text = store.connector.command(key, "HGET", key, "!")
    return text if isinstance(text, bytes) else b""


def _too_busy(service: str) -> FourlaneError:
    return FourlaneError(f"the workers and limits of {service} change too fast to be read; try again")
