"""One job: where it is, and all that is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fourlane import codec
from fourlane import job as jobs
from fourlane.errors import InvalidName, JobNotFound, UnreadableJob
from fourlane.job import JobInfo, State
from fourlane.names import Queue, Tier
from fourlane.queues import ended
from fourlane.queues.browse.counts import queue_of
from fourlane.queues.records import read_record
from fourlane.queues.results import Results
from fourlane.queues.store import Store

__all__ = ["job", "job_info", "locate"]


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
    for service, stored_ids in _candidates(store, job_id, queue):
        for stored_id in stored_ids:
            if ended.is_done(Results(store).look(service, stored_id)):
                return job_info(store, service, stored_id, State.DONE)
    raise JobNotFound(
        f"there is no job {job_id!r}{f' in {queue}' if isinstance(queue, str) else ''}; "
        "a finished job whose result is not kept leaves no trace"
    )


def locate(store: Store, job_id: str, queue: Queue | str | None = None) -> Iterator[tuple[str, str]]:
    """Every service that has a job of this id, with the id under which it is stored there."""
    for service, stored_ids in _candidates(store, job_id, queue):
        if stored_ids:
            key = store.service(service).jobs
            bodies = store.connector.command(key, "HMGET", key, *stored_ids)
            yield from ((service, i) for i, body in zip(stored_ids, bodies, strict=True) if body is not None)


def _candidates(store: Store, job_id: str, queue: Queue | str | None) -> Iterator[tuple[str, list[str]]]:
    if queue is None:
        stored_ids = _stored_ids(job_id, list(Tier))
        yield from ((service, stored_ids) for service in store.services())
    else:
        only = queue_of(store, queue)
        yield only.service, _stored_ids(job_id, [only.tier])


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
