"""Pauses and limits of queues.

Those of a service are one JSON text beside its jobs (keys.py: "!"), replaced by compare-and-set, so that two operators
at once cannot undo each other. Workers see a change at their next lease.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import msgspec

from fourlane.errors import SettingsError
from fourlane.names import Queue, Tier, parse_queue
from fourlane.queues import carry
from fourlane.queues.browse import queue_of
from fourlane.queues.control.busy import TRIES, too_busy
from fourlane.queues.limit import Limit, read_limits
from fourlane.queues.store import Store

__all__ = ["clear", "declare_limits", "limits", "pause", "resume", "rewrite", "set_limit"]

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


def _change(store: Store, queue: Queue | str, change: _Change) -> bool:
    carry.refuse_late()
    named = queue_of(store, queue)
    tier = str(int(named.tier))

    def edit(text: bytes) -> bytes:
        now = read_limits(text)
        before = now.get(tier, Limit())
        after = change(before)
        if after == before:
            return text
        now[tier] = after
        kept = {t: limit for t, limit in sorted(now.items()) if limit != Limit()}
        return msgspec.json.encode(kept) if kept else b""

    return _replace(store, named.service, edit)


def _replace(store: Store, service: str, edit: Callable[[bytes], bytes]) -> bool:
    """Replace the text by compare-and-set. An equal text is written too where there is one: see rewrite."""
    keys = store.service(service)
    for _ in range(TRIES):
        old = _read(store, service)
        new = edit(old)
        if not old and not new:
            return False
        if not old:
            store.announce(service)  # a queue may be paused before its first job
        names = store.lease_names(service)
        if store.connector.run("control", [*keys.all, *map(keys.leased, names)], (old, new, *names)):
            return new != old
    raise too_busy(service)


def _read(store: Store, service: str) -> bytes:
    key = store.service(service).jobs
    text = store.connector.command(key, "HGET", key, "!")
    return text if isinstance(text, bytes) else b""
