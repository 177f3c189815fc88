"""Jobs as dramatiq's messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import dramatiq

from fourlane import codec, job
from fourlane.codec import SENT_AS, is_sealed
from fourlane.errors import EncryptionError, Reject, UnreadableJob
from fourlane.later import refuse_unsealed
from fourlane.names import Queue, Tier
from fourlane.queues.records import options_of_retry, read_record
from fourlane.queues.store import Store
from fourlane.queues.turn import Leased

__all__ = ["Named", "message_of"]


class Named(Protocol):
    """A broker, as far as messages have names from it."""

    @property
    def actors(self) -> Mapping[str, dramatiq.Actor[Any, Any]]: ...
    @property
    def store(self) -> Store: ...
    def queue_of(self, name: str) -> Queue: ...


def message_of(
    broker: Named, service: str, leased: Leased, queue_name: str = "", envelope: codec.Envelope | None = None
) -> dramatiq.Message[Any]:
    """The message of a leased job, with the queue's name as its actor has it unless ``queue_name`` gives another.

    Results are kept under that name, and dramatiq's Worker finds its consumer by it. Raises UnreadableJob.
    """
    job_id = job.id_of_entry(leased.entry)
    if envelope is None:
        envelope = _read(broker, job_id, leased.body)
    options = dict(envelope.options)
    sent_as = options.pop(SENT_AS, None)
    record = read_record(leased.record)
    if record.attempts or record.options:
        options.update(options_of_retry(record.options))
        options.setdefault("retries", record.attempts)
    return dramatiq.Message(
        queue_name=queue_name or _queue_name(broker, envelope.task, Queue(service, Tier(int(job_id[0])))),
        actor_name=envelope.task,
        args=tuple(envelope.args),
        kwargs=envelope.kwargs,
        options=options,
        message_id=sent_as if isinstance(sent_as, str) else job.message_id_of(job_id),
        message_timestamp=envelope.enqueued_ms or job.enqueued_at_ms(job_id) or 0,
    )


def _read(broker: Named, job_id: str, body: bytes) -> codec.Envelope:
    envelope = codec.decode(body)
    demanded = getattr(broker.actors.get(envelope.task), "encrypt", False)
    try:
        if not is_sealed(envelope):
            refuse_unsealed(envelope.options, broker.actors)
            if not demanded:
                return envelope
        from fourlane.sealing import open_job

        return open_job(envelope, job_id, demanded)
    except (EncryptionError, Reject) as error:
        raise UnreadableJob(str(error)) from error


def _queue_name(broker: Named, task: str, queue: Queue) -> str:
    actor = broker.actors.get(task)
    if actor is not None and broker.queue_of(actor.queue_name) == queue:
        return actor.queue_name
    return queue.name(broker.store.environment)
