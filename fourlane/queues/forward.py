"""Takes over the backlog that dramatiq's own RedisBroker left: each message becomes a job here, then goes there.

What waits for its moment keeps it, and retries are counted on. A message that nobody acknowledged, for its worker died,
is part of the backlog. Dead letters, and what cannot be a job here, stay where they are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from dramatiq.common import dq_name, q_name
from dramatiq.errors import DecodeError
from dramatiq.message import Message

from fourlane.errors import FourlaneError, InvalidArguments, InvalidName, InvalidOption, JobTooLarge
from fourlane.queues.broker import RedisBroker

__all__ = ["BacklogInUse", "Forwarded", "Left", "forward", "queues_left"]

_IN_USE_MS: Final = 10_000
_MESSAGES: Final = ".msgs"
_THEIRS: Final = ("redis_message_id", "eta")
_REFUSED: Final = (InvalidName, InvalidArguments, InvalidOption, JobTooLarge)


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


class Left(NamedTuple):
    """A message that cannot be a job here: where it is, and why it stays there."""

    key: str
    message_id: str
    why: str


class Forwarded(NamedTuple):
    """What became of a queue's messages."""

    moved: int
    left: list[Left]


def forward(broker: RedisBroker, client: Any, namespace: str, queue: str) -> Forwarded:
    """Make jobs of one queue's messages. When it is interrupted, call it again: what was moved last may then run twice.

    Parameters:
      client: of the Redis where the messages are.

    Raises:
      BacklogInUse: dramatiq's broker was used a moment ago.
    """
    _check_unused(client, namespace)
    moved, left = 0, []
    for name in (queue, dq_name(queue)):
        key = f"{namespace}:{name}"
        stay = []
        for message_id, data in _messages(client, key):
            try:
                _enqueue(broker, queue, data)
            except (_Unreadable, *_REFUSED) as error:
                stay.append(message_id)
                left.append(Left(key + _MESSAGES, message_id.decode(errors="backslashreplace"), str(error)))
                continue
            client.hdel(key + _MESSAGES, message_id)
            moved += 1
        _keep_order(client, key, stay)
    return Forwarded(moved, left)


class _Unreadable(FourlaneError):
    """This is no message of dramatiq's."""


def _enqueue(broker: RedisBroker, queue: str, data: bytes) -> None:
    message = _read(data)
    eta = message.options.get("eta")
    delay = None if eta is None else max(1, int(eta - time.time() * 1000))
    options = {name: value for name, value in message.options.items() if name not in _THEIRS}
    broker.declare_queue(queue)
    broker.enqueue(message._replace(queue_name=queue, options=options), delay=delay)


def _read(data: bytes) -> Any:
    try:
        message = Message.decode(data)
    except DecodeError:
        raise _Unreadable("it cannot be decoded as a message of dramatiq's") from None
    kinds = {"actor_name": str, "kwargs": dict, "options": dict, "message_id": str}
    for name, kind in kinds.items():
        if not isinstance(getattr(message, name), kind):
            raise _Unreadable(f"its {name} is of type {type(getattr(message, name)).__name__}, not {kind.__name__}")
    eta = message.options.get("eta")
    if eta is not None and not (isinstance(eta, int | float) and math.isfinite(eta)):
        raise _Unreadable("its eta is not a number")
    return message


def _keep_order(client: Any, key: str, stay: list[bytes]) -> None:
    """The order names the messages that stay, and no other; in one step, for it may be interrupted."""
    with client.pipeline(transaction=True) as together:
        together.delete(key)
        if stay:
            together.rpush(key, *stay)
        together.execute()


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
