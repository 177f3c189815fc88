"""Takes over the backlog that dramatiq's own RedisBroker left: each message becomes a job here, then goes there.

What waits for its moment keeps it, and retries are counted on. A message that nobody acknowledged, for its worker died,
is part of the backlog. Dead letters stay where they are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from dramatiq.common import dq_name, q_name
from dramatiq.message import Message

from fourlane.errors import FourlaneError
from fourlane.queues.broker import RedisBroker

__all__ = ["BacklogInUse", "forward", "queues_left"]

_IN_USE_MS: Final = 10_000
_MESSAGES: Final = ".msgs"
_THEIRS: Final = ("redis_message_id", "eta")


class BacklogInUse(FourlaneError):
    """Somebody works with dramatiq's broker still."""


def queues_left(client: Any, namespace: str) -> list[str]:
    """The queues of dramatiq's broker that have messages, without those for dead letters."""
    found = set()
    for key in client.scan_iter(match=f"{namespace}:*{_MESSAGES}", count=1000):
        name = key.decode().removeprefix(f"{namespace}:").removesuffix(_MESSAGES)
        if not name.endswith(".XQ"):
            found.add(q_name(name))
    return sorted(found)


def forward(broker: RedisBroker, client: Any, namespace: str, queue: str) -> int:
    """Make jobs of one queue's messages. Returns how many. When it is interrupted, call it again: what was moved last
    may then run twice.

    Parameters:
      client: of the Redis where the messages are.

    Raises:
      BacklogInUse: dramatiq's broker was used a moment ago.
      InvalidName, InvalidArguments, JobTooLarge: the message cannot be a job here; it stays.
    """
    _check_unused(client, namespace)
    broker.declare_queue(queue)
    moved = 0
    for name in (queue, dq_name(queue)):
        key = f"{namespace}:{name}"
        for message_id, data in _messages(client, key):
            message = Message.decode(data)
            eta = message.options.get("eta")
            delay = None if eta is None else max(1, int(eta - time.time() * 1000))
            options = {name: value for name, value in message.options.items() if name not in _THEIRS}
            broker.enqueue(message._replace(queue_name=queue, options=options), delay=delay)
            client.hdel(key + _MESSAGES, message_id)
            moved += 1
        client.delete(key)  # its order; no message is left
    return moved


def _messages(client: Any, key: str) -> Iterator[tuple[bytes, bytes]]:
    """In their order, then those that were handed to a worker."""
    ordered = list(dict.fromkeys(client.lrange(key, 0, -1)))
    known = set(ordered)
    ordered += [message_id for message_id in client.hkeys(key + _MESSAGES) if message_id not in known]
    for message_id in ordered:
        data = client.hget(key + _MESSAGES, message_id)
        if data is not None:
            yield message_id, data


def _check_unused(client: Any, namespace: str) -> None:
    last = client.zrange(f"{namespace}:__heartbeats__", -1, -1, withscores=True)
    quiet_ms = time.time() * 1000 - last[0][1] if last else _IN_USE_MS
    if quiet_ms < _IN_USE_MS:
        raise BacklogInUse(
            f"dramatiq's broker was used {max(0, quiet_ms) / 1000:.0f} s ago. Stop its workers and all that sends "
            f"through it; {_IN_USE_MS // 1000} s later this can move its messages"
        )
