"""What is in the queues, read only: counts, ages, one job, the workers, tasks that nobody knew.

Counts come from Redis's own sizes, never from a scan, so looking costs the same however much is waiting.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Any, Final

import msgspec

from fourlane import codec
from fourlane import job as jobs
from fourlane.errors import InvalidName, JobNotFound, RedisUnavailable, UnknownQueue, UnreadableJob
from fourlane.job import JobInfo, State
from fourlane.names import Queue, Tier, parse_queue
from fourlane.queues import ended
from fourlane.queues.limit import Limit, read_limits
from fourlane.queues.records import read_record
from fourlane.queues.store import Store

__all__ = [
    "Overrun",
    "QueueInfo",
    "Rate",
    "ServiceInfo",
    "UnknownTask",
    "WorkerInfo",
    "eviction_policy",
    "job",
    "job_info",
    "known_queue",
    "locate",
    "memory",
    "now_ms",
    "queue_of",
    "queues",
    "rates",
    "services",
    "traffic",
    "unknown_tasks",
    "workers",
]

LOST_AFTER_MS: Final = 90_000
FORGOTTEN_AFTER_MS: Final = 600_000


class QueueInfo(msgspec.Struct, frozen=True):
    """One tier of one service."""

    name: str
    service: str
    tier: Tier
    ready: int
    """Jobs that may run now, without those that were cancelled while they waited."""
    dead: int
    done: int | None
    """Jobs that ever succeeded; None when none was counted."""
    oldest_age_ms: int | None
    """How long the next job has waited; None when there is none, or its id does not tell."""
    paused: bool
    limit: Limit | None


class ServiceInfo(msgspec.Struct, frozen=True):
    """A service: its four queues, and what its tiers share."""

    name: str
    delayed: int
    """Jobs of all four tiers that may not run yet."""
    next_due_in_ms: int | None
    """Milliseconds until the next of them may run; 0 when it is late."""
    running: int
    workers: int
    queues: list[QueueInfo]
    at_ms: int
    """Redis's time when this was so."""


class Rate(msgspec.Struct, frozen=True):
    """How fast a queue goes, between two looks at it."""

    done_per_second: float | None
    """Jobs that succeeded; None when they are not counted."""
    growth_per_second: float
    """How fast the jobs that are ready become more; below 0, fewer."""


class Overrun(msgspec.Struct, frozen=True):
    """A job that runs on though its own time limit passed: its function does not heed the interrupt."""

    job: str
    task: str
    over_ms: int

    def __str__(self) -> str:
        return f"job {self.job} ({self.task}) has run {self.over_ms / 1000:,.0f} s past its time limit"


class WorkerInfo(msgspec.Struct, frozen=True):
    """A worker process, as it last described itself."""

    name: str
    host: str = ""
    pid: int = 0
    started_ms: int = 0
    seen_ms: int = 0
    queues: list[str] = []
    slots: int = 0
    concurrency: int = 0
    processes: int = 1
    names: dict[str, str] = {}
    """Its lease name in each service."""
    held: int = 0
    version: str = ""
    overrun: Overrun | None = None
    """The job that passed its time limit first, of those that run."""
    lost: bool = False
    """True when it has not been seen for 90 s."""


class UnknownTask(msgspec.Struct, frozen=True):
    """A task that jobs name and no worker knew."""

    service: str
    name: str
    seen_ms: int


_read_worker = msgspec.json.Decoder(dict[str, Any]).decode


def queue_of(store: Store, queue: Queue | str) -> Queue:
    """A queue by any of its names. Raises InvalidName."""
    return queue if isinstance(queue, Queue) else parse_queue(queue, store.environment)


def known_queue(store: Store, queue: Queue | str) -> Queue:
    """A queue by any of its names, of a service that exists: a misspelt one is told, not obeyed.

    Raises InvalidName, UnknownQueue.
    """
    place = queue_of(store, queue)
    known = store.services()
    if place.service not in known:
        close = get_close_matches(place.service, known, n=3)
        hint = f"did you mean {', '.join(close)}" if close else f"known: {', '.join(known[:10]) or 'none yet'}"
        raise UnknownQueue(
            f"{place.name(store.environment)}: no job or worker of a service {place.service!r} was ever seen; {hint}"
        )
    return place


def now_ms(store: Store) -> int:
    """Redis's own time, by which all times in the queues are written: milliseconds since the epoch."""
    seconds, micros = store.connector.command(store.keys.services, "TIME")
    return int(seconds) * 1000 + int(micros) // 1000


def eviction_policy(store: Store) -> str | None:
    """Redis's maxmemory-policy; None when it does not tell us. Any but ``noeviction`` may cost jobs."""
    try:
        told = store.connector.command(store.keys.services, "INFO", "memory")
    except RedisUnavailable:  # this user may not ask
        return None
    found = re.search(rb"^maxmemory_policy:(\S+)", told, re.MULTILINE) if isinstance(told, bytes) else None
    return found[1].decode() if found else None


def memory(store: Store) -> tuple[int, int] | None:
    """Bytes that Redis uses, and its maxmemory, 0 for none; None when it does not tell us."""
    try:
        told = store.connector.command(store.keys.services, "INFO", "memory")
    except RedisUnavailable:
        return None
    found = dict(re.findall(rb"^(used_memory|maxmemory):(\d+)", told if isinstance(told, bytes) else b"", re.MULTILINE))
    return (int(found[b"used_memory"]), int(found.get(b"maxmemory", 0))) if b"used_memory" in found else None


def traffic(store: Store) -> tuple[int, int, int] | None:
    """Commands that this Redis ran since its start, those inside scripts too, bytes it got and bytes it sent; None
    when it does not tell us."""
    try:
        told = store.connector.command(store.keys.services, "INFO", "stats")
    except RedisUnavailable:
        return None
    names = (b"total_commands_processed", b"total_net_input_bytes", b"total_net_output_bytes")
    found = dict(re.findall(rb"^(\w+):(\d+)", told if isinstance(told, bytes) else b"", re.MULTILINE))
    commands, got, sent = (int(found.get(name, -1)) for name in names)
    return None if min(commands, got, sent) < 0 else (commands, got, sent)


# Queues -----------------------------------------------------------------------------------------------------


def queues(store: Store) -> list[QueueInfo]:
    """All queues of all services, the four tiers of each in their order."""
    return [queue for service in services(store) for queue in service.queues]


def services(store: Store) -> list[ServiceInfo]:
    """All services that ever had a job, a worker or a limit."""
    return [_service(store, name) for name in store.services()]


def rates(before: Sequence[ServiceInfo], after: Sequence[ServiceInfo]) -> dict[str, Rate]:
    """The rate of every queue that both looks have, by its full name."""
    earlier = {queue.name: (queue, service.at_ms) for service in before for queue in service.queues}
    found: dict[str, Rate] = {}
    for service in after:
        for queue in service.queues:
            if queue.name not in earlier:
                continue
            then, at_ms = earlier[queue.name]
            seconds = (service.at_ms - at_ms) / 1000
            if seconds > 0:
                done = None if queue.done is None else max(0, queue.done - (then.done or 0)) / seconds
                found[queue.name] = Rate(done, (queue.ready - then.ready) / seconds)
    return found


def _service(store: Store, name: str) -> ServiceInfo:
    keys = store.service(name)
    reply = store.connector.run("browse", keys.all, ())
    *tiers, delayed, due, workers, control, now = reply
    limits, now = read_limits(control), int(now)
    found: list[QueueInfo] = []
    for tier in Tier:
        ready, void, since, dead, done = tiers[tier * 5 : tier * 5 + 5]
        limit = limits.get(str(int(tier)))
        found.append(
            QueueInfo(
                name=Queue(name, tier).name(store.environment),
                service=name,
                tier=tier,
                ready=max(0, ready - max(0, void)),
                dead=dead,
                done=done if done >= 0 else None,
                oldest_age_ms=max(0, now - int(since)) if int(since) else None,
                paused=limit.paused if limit else False,
                limit=limit,
            )
        )
    running = 0
    for lease_name in store.lease_names(name):
        running += store.connector.command(keys.jobs, "SCARD", keys.leased(lease_name))
    next_due = max(0, int(float(due)) - now) if due else None
    return ServiceInfo(name, delayed, next_due, running, workers, found, now)


# One job ----------------------------------------------------------------------------------------------------


def job(store: Store, job_id: str, queue: Queue | str | None = None) -> JobInfo:
    """All that is known of a job.

    Parameters:
      job_id: the id that the caller got, or a message id that another program chose.
      queue: where to look; without it all services are asked.

    Raises:
      JobNotFound: it is done and no result of it is kept, or it never was.
      InvalidName: ``queue`` is no queue.
    """
    for service, stored_id in locate(store, job_id, queue):
        info = _inspect(store, service, stored_id)
        if info is not None:
            return info
    for service, stored_ids in _places(store, job_id, queue):
        for stored_id in stored_ids:
            key = store.service(service).result(stored_id)
            if ended.is_done(store.connector.command(key, "LINDEX", key, 0)):
                return job_info(store, service, stored_id, State.DONE)
    raise JobNotFound(
        f"there is no job {job_id!r}{f' in {queue}' if isinstance(queue, str) else ''}; "
        "a finished job whose result is not kept leaves no trace"
    )


def locate(store: Store, job_id: str, queue: Queue | str | None = None) -> Iterator[tuple[str, str]]:
    """Every service that has a job of this id, with the id under which it is stored there."""
    for service, stored_ids in _places(store, job_id, queue):
        if stored_ids:
            key = store.service(service).jobs
            bodies = store.connector.command(key, "HMGET", key, *stored_ids)
            yield from ((service, i) for i, body in zip(stored_ids, bodies, strict=True) if body is not None)


def _places(store: Store, job_id: str, queue: Queue | str | None) -> Iterator[tuple[str, list[str]]]:
    if queue is None:
        stored_ids = _stored_ids(job_id, list(Tier))
        yield from ((service, stored_ids) for service in store.services())
    else:
        place = queue_of(store, queue)
        yield place.service, _stored_ids(job_id, [place.tier])


def _stored_ids(job_id: str, tiers: Sequence[Tier]) -> list[str]:
    """The ids under which a job may be stored."""
    digits = [str(int(tier)) for tier in tiers]
    found = []
    if job_id[:1] in digits and job_id[1:2] == "." and len(job_id) > 2:
        found.append(job_id)
    for tier in tiers:
        try:
            found.append(jobs.id_of_message(job_id, tier))
        except InvalidName:  # then no job can have it
            continue
    # One of our own ids may also be the message id of a copy in another tier; the original comes first.
    return sorted(found, key=lambda stored_id: stored_id != job_id)


def _inspect(store: Store, service: str, job_id: str) -> JobInfo | None:
    keys = store.service(service)
    names = store.lease_names(service)
    reply = store.connector.run("inspect", [*keys.all, *map(keys.leased, names)], (job_id,))
    state = State(reply[0].decode())
    if state is State.UNKNOWN:  # it ended since we located it
        return None
    body, record, crashes, reason, score, worker = reply[1:]
    at_ms = int(float(score)) if score else None
    return job_info(
        store,
        service,
        job_id,
        state,
        body=body,
        record=record,
        reason=reason,
        crashes=crashes,
        due_at_ms=at_ms if state is State.DELAYED else None,
        died_at_ms=at_ms if state is State.DEAD else None,
        worker=names[worker - 1] if worker else "",
    )


def job_info(
    store: Store,
    service: str,
    job_id: str,
    state: State,
    *,
    body: bytes = b"",
    record: bytes = b"",
    reason: bytes = b"",
    crashes: bytes = b"",
    due_at_ms: int | None = None,
    died_at_ms: int | None = None,
    worker: str = "",
) -> JobInfo:
    """A job's information from what the keys hold of it."""
    envelope, fault = codec.Envelope(""), ""
    if body:
        try:
            envelope = codec.decode(body)
        except UnreadableJob as error:
            fault = str(error)
    known = read_record(record)
    options = envelope.options | known.options
    word, _, detail = reason.decode(errors="replace").partition("\n")
    return JobInfo(
        id=jobs.message_id_of(job_id),
        queue=Queue(service, Tier(int(job_id[0]))).name(store.environment),
        state=state,
        task=envelope.task,
        tenant=str(options.get("tenant") or ""),
        args=envelope.args,
        kwargs=envelope.kwargs,
        options=options,
        enqueued_at_ms=envelope.enqueued_ms or jobs.enqueued_at_ms(job_id),
        due_at_ms=due_at_ms,
        died_at_ms=died_at_ms,
        reason=word,
        detail=detail or fault,
        attempts=known.attempts,
        crashes=int(crashes) if crashes and crashes.isdigit() else 0,
        errors=known.errors,
        worker=worker,
    )


# Workers and tasks ------------------------------------------------------------------------------------------


def workers(store: Store) -> list[WorkerInfo]:
    """The worker processes, by name. Those lost for ten minutes are forgotten: that bounds the list."""
    key = store.keys.presence
    now = now_ms(store)
    found: list[WorkerInfo] = []
    gone: list[str] = []
    for field, text in _pairs(store.connector.command(key, "HGETALL", key)):
        name = field.decode(errors="replace")
        worker = _worker(name, text, now)
        if worker is None or now - worker.seen_ms > FORGOTTEN_AFTER_MS:
            gone.append(name)
        else:
            found.append(worker)
    if gone:
        store.connector.command(key, "HDEL", key, *gone)
    return sorted(found, key=lambda worker: worker.name)


def _worker(name: str, text: bytes, now: int) -> WorkerInfo | None:
    try:
        said = _read_worker(text)
        seen = int(said.get("seen_ms", 0))
        return msgspec.convert(said | {"name": name, "lost": now - seen > LOST_AFTER_MS}, WorkerInfo)
    except (msgspec.DecodeError, msgspec.ValidationError, TypeError, ValueError):
        return None


def unknown_tasks(store: Store) -> list[UnknownTask]:
    """Tasks that some worker was given and did not know, of the last 48 hours, the latest first."""
    found: list[UnknownTask] = []
    for service in store.services():
        key = store.service(service).unknown
        for name, score in scored(store.connector.command(key, "ZREVRANGE", key, 0, -1, "WITHSCORES")):
            if not name.startswith("\n"):  # lua/parts/unknown.lua
                found.append(UnknownTask(service, name, score))
    return sorted(found, key=lambda task: -task.seen_ms)


def scored(reply: Any) -> list[tuple[str, int]]:
    """Members and scores of a WITHSCORES reply, which is flat in RESP2 and nested in RESP3."""
    return [(member.decode(errors="replace"), int(float(score))) for member, score in _pairs(reply)]


def _pairs(reply: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(reply, dict):
        yield from reply.items()
    elif reply and isinstance(reply[0], (list, tuple)):
        yield from ((first, second) for first, second in reply)
    else:
        flat = iter(reply)
        while pair := tuple(islice(flat, 2)):
            yield pair[0], pair[1]
