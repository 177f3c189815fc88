"""Jobs that an operator ends: one that is cancelled, a whole queue that is purged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fourlane import codec
from fourlane.errors import UnreadableJob
from fourlane.job import State
from fourlane.names import Queue
from fourlane.outcome import WAITERS_MS
from fourlane.queues import carry, ended
from fourlane.queues.browse import locate, queue_of
from fourlane.queues.control.busy import TRIES, too_busy
from fourlane.queues.keys import ServiceKeys
from fourlane.queues.store import Store

__all__ = ["cancel", "purge"]

_NEVER_RAN: Final = "it was cancelled before it ran"


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
    """Drop a queue's ready, parked and delayed jobs; what runs and the dead letters stay. Returns how many went.

    Stops after as many as there were at the start, so that a busy producer cannot keep it going for ever.
    """
    carry.refuse_late()
    named = queue_of(store, queue)
    keys = store.service(named.service)
    tier, command = int(named.tier), store.connector.command
    most = command(keys.jobs, "LLEN", keys.ready[tier]) + command(keys.jobs, "ZCARD", keys.delayed)
    parked = command(keys.jobs, "ZCARD", keys.parked)
    # Those that are parked first: whoever gives up a place lets another one in, to the ready ones.
    return _sweep(store, keys, tier, "parked", parked) + _sweep(store, keys, tier, "", most + parked)


def _sweep(store: Store, keys: ServiceKeys, tier: int, which: str, most: int) -> int:
    dropped = skip = done = 0
    while not done and dropped + skip < most:
        some, passed, done = store.connector.run_once("purge", keys.all, (tier, which, skip), keys.sent)
        dropped += some
        skip += passed
    return dropped


def _cancel(store: Store, service: str, job_id: str, telling: bytes, waiters: bytes) -> State:
    keys = store.service(service)
    for _ in range(TRIES):
        names = store.lease_names(service)
        touched = [*keys.all, *map(keys.leased, names), keys.cancelled(job_id), keys.result(job_id)]
        args = (job_id, telling, waiters, WAITERS_MS, *names)
        (state,) = store.connector.run_once("cancel", touched, args, keys.sent)
        if state != b"again":
            return State(state.decode())
    raise too_busy(service)
