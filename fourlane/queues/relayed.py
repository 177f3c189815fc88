"""Jobs that come from the outbox, each once, however often a relay repeats itself (lua/relay.lua)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fourlane.queues.store import Store

__all__ = ["Relayed", "relay"]


class Relayed(NamedTuple):
    """A job that comes from the outbox. Milliseconds since the epoch; ``due_ms`` None means now."""

    id: str
    entry: str
    due_ms: int | None
    body: bytes


def relay(
    store: Store,
    service: str,
    jobs: Sequence[Relayed],
    *,
    not_after_ms: int,
    remember_ms: int,
    confirmed: Sequence[str],
    remember_confirmed_ms: int,
) -> tuple[int, int | None]:
    """Accept jobs of the outbox. The call may be repeated.

    Parameters:
      not_after_ms: Redis refuses the jobs after this time of its own.
      remember_ms: how long their ids are remembered.
      confirmed: ids of earlier calls that need to be remembered only for ``remember_confirmed_ms`` more.

    Returns the time at Redis, and how many were new; None when it was too late.
    """
    store.announce(service)
    keys = store.service(service)
    args: list[Any] = [not_after_ms, remember_ms, remember_confirmed_ms, len(confirmed), *confirmed]
    for job in jobs:
        args += (job.id, job.entry, "" if job.due_ms is None else job.due_ms, job.body)
    names = (keys.jobs, keys.relayed, keys.delayed, keys.news, *keys.ready, *keys.wake)
    now, *words = store.connector.run("relay", names, args)
    return int(now), None if words == [b"late"] else words.count(b"new")
