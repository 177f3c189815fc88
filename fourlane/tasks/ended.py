"""The task that tells callbacks of ends that no run had (queues/ended.py). Every worker knows it."""

from __future__ import annotations

import asyncio
from typing import Any

import dramatiq
from dramatiq.broker import MessageProxy

from fourlane import codec
from fourlane.errors import JobCancelled, JobFailed, Reject, UnreadableJob
from fourlane.options import without_end
from fourlane.queues import carry, ended
from fourlane.queues.broker import RedisBroker
from fourlane.queues.messages import message_of
from fourlane.queues.records import read_record
from fourlane.queues.turn import Leased
from fourlane.tasks.context import running
from fourlane.tasks.task import task

__all__ = ["declare"]


def declare(broker: RedisBroker, *, is_async: bool) -> None:
    """Make it a task of this broker's; ``async def`` for a worker that has no threads for plain functions."""
    if ended.TASK in broker.actors:
        return

    def tell(job_id: str, detail: str, cancelled: bool, body: str = "") -> None:
        _tell(broker, job_id, JobCancelled(detail) if cancelled else JobFailed(detail), body.encode())

    async def tell_async(*args: Any) -> None:
        await asyncio.to_thread(tell, *args)

    task(name=ended.TASK, broker=broker, result_ttl_ms=0)(tell_async if is_async else tell)


def _tell(broker: RedisBroker, job_id: str, error: JobFailed, body: bytes) -> None:
    run = running.get()
    assert run is not None
    service, store = run.context.queue, broker.store
    keys = store.service(service)
    body = body or store.connector.command(keys.jobs, "HGET", keys.jobs, job_id) or b""
    if not body:
        return  # a dead letter that somebody dropped meanwhile
    record = store.connector.command(keys.records, "HGET", keys.records, job_id) or b""
    try:
        message = message_of(broker, service, Leased(job_id, body, record, 0))
    except UnreadableJob as unreadable:
        raise Reject(str(unreadable)) from None
    with carry.sealing(codec.is_sealed(codec.decode(body))):
        _tell_callbacks(broker, message, record, error)


def _tell_callbacks(broker: RedisBroker, message: dramatiq.Message[Any], record: bytes, error: JobFailed) -> None:
    actor = broker.actors.get(message.actor_name)
    options = ({} if actor is None else actor.options) | message.options
    most = without_end(options.get("max_retries"))
    told = {
        "on_failure": {"type": type(error).__name__, "message": str(error)},
        "on_retry_exhausted": {"retries": read_record(record).attempts, "max_retries": most},
    }
    for option, words in told.items():
        if isinstance(options.get(option), str):
            broker.get_actor(options[option]).send(message.asdict(), words)
    proxy = MessageProxy(message)
    proxy.failed, proxy._exception = True, error
    for signal in ("before_nack", "after_nack"):
        broker.call_hooks(broker.hooks(signal, native=False), (proxy,), {})
