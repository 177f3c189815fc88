"""What a receiver process has in hand, where its death leaves it: in a file that the worker beside it opened.

Writing to it never waits for the worker, whose GIL user code may hold; and what a killed process wrote stays written.
The receiver that comes next gives back what lies there, at once, and counts the death of what had begun.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from fourlane.errors import RedisUnavailable
from fourlane.events import messages
from fourlane.events.aws import Aws
from fourlane.events.messages import Message
from fourlane.events.names import EventQueue, parse_sqs
from fourlane.events.tries import Tries
from fourlane.queues.claims import Claims
from fourlane.queues.store import Store

__all__ = ["Gate", "Hand", "Held", "give_back", "is_receiving", "left_in", "set_receiving"]

log = logging.getLogger("fourlane.events")

_PLACE_BYTES: Final = 4_096  # the first place says whether a receiver got as far as receiving
_ALONE_SECONDS: Final = 10.0


class Held(msgspec.Struct, array_like=True):
    """A message in hand: its queue's name in SQS, whether its handling had begun, and what it claimed in Redis."""

    queue: str
    id: str
    handle: str
    begun: bool = False
    owner: str = ""
    claims: list[tuple[str, str]] = []


class Hand:
    """May be shared by threads.

    Parameters:
      fd: the file; without one it is only known here.
    """

    def __init__(self, fd: int | None = None) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._places: dict[str, tuple[int, Held]] = {}  # by handle
        self._free: list[int] = []
        self.settled_by: Callable[..., None] | None = None

    def take(self, queue: EventQueue, received: Sequence[Message]) -> None:
        with self._lock:
            for message in received:
                place = self._free.pop() if self._free else 1 + len(self._places)
                held = Held(queue.sqs_name, message.id, message.handle)
                self._places[message.handle] = place, held
                self._write(place, held)

    def begin(self, received: Sequence[Message]) -> None:
        """From now on a death may be this message's doing."""
        self._change(received, begun=True)

    def claim(self, message: Message, owner: str, claims: list[tuple[str, str]]) -> None:
        self._change([message], owner=owner, claims=list(claims))

    def drop(self, received: Sequence[Message]) -> None:
        with self._lock:
            for message in received:
                place, _ = self._places.pop(message.handle, (-1, None))
                if place >= 0:
                    self._free.append(place)
                    self._write(place, None)

    def give_back(self) -> None:
        """Give back all of it; the process ends, whatever still runs."""
        with self._lock:
            left = [held for _, held in self._places.values()]
        if self.settled_by is not None:
            self.settled_by(left, died=False)

    def _change(self, received: Sequence[Message], **fields: object) -> None:
        with self._lock:
            for message in received:
                if message.handle in self._places:
                    place, held = self._places[message.handle]
                    for name, value in fields.items():
                        setattr(held, name, value)
                    self._write(place, held)

    def _write(self, place: int, held: Held | None) -> None:
        if self._fd is not None:
            line = msgspec.json.encode(held)
            if len(line) > _PLACE_BYTES - 1:
                line = b"null"  # not known, then: it comes back when its time is over
            os.pwrite(self._fd, line + b"\n", place * _PLACE_BYTES)


def set_receiving(fd: int, receiving: bool) -> None:
    """Say in the file whether a receiver has begun to receive; until it has, what lies there is another's."""
    if receiving:
        os.ftruncate(fd, 0)
    os.pwrite(fd, b"1" if receiving else b"0", 0)


def is_receiving(fd: int) -> bool:
    return os.pread(fd, 1, 0) == b"1"


def left_in(fd: int) -> list[Held]:
    """What a process that is gone has left in its file."""
    found: list[Held] = []
    for start in range(_PLACE_BYTES, os.fstat(fd).st_size, _PLACE_BYTES):
        line = os.pread(fd, _PLACE_BYTES, start).partition(b"\n")[0]
        try:
            held = msgspec.json.decode(line, type=Held | None)
        except msgspec.DecodeError:
            continue  # it died while it wrote this
        if held is not None:
            found.append(held)
    return found


def give_back(aws: Aws, store: Store, left: Sequence[Held], *, died: bool, killed: bool = False) -> None:
    """Give back at once what a receiver leaves.

    Parameters:
      died: the receiver alone, and not with its worker; so what had begun is suspect of it.
      killed: by SIGKILL.
    """
    begun = [held for held in left if held.begun]
    if died:
        tries = Tries(store)
        for held in begun:
            tries.died(held.id, alone=len(begun) == 1, killed=killed)
            log.warning("a receiver died with message %s of %s begun, of %d", held.id, held.queue, len(begun))
    claims = Claims(store)
    by_queue: dict[EventQueue, list[Message]] = defaultdict(list)
    for held in left:
        for service, stored in held.claims:
            try:
                claims.release(service, stored, held.owner)
            except RedisUnavailable:
                break  # they end by themselves
        queue = parse_sqs(held.queue)
        if queue is not None:
            by_queue[queue].append(Message(held.id, held.handle, ""))
    for queue, several in by_queue.items():
        messages.change_visibility(aws, queue, several, 0)
        log.info("gave back %d event(s) of %s, left by a receiver that is gone", len(several), queue.event)


class Gate:
    """Handling goes through here. A suspect of poison begins alone, so that its next death tells on nobody else.

    Nobody waits longer than ten seconds: a suspect that lived so long may have company, and one that found none of
    it gone begins all the same.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = self._suspects = 0
        self._closed_until = 0.0

    @contextmanager
    def through(self, *, suspect: bool) -> Iterator[None]:
        with self._changed:
            if suspect:
                self._suspects += 1
                self._closed_until = time.monotonic() + _ALONE_SECONDS
                self._changed.wait_for(lambda: not self._inside, _ALONE_SECONDS)
            else:
                while (left := self._closed_until - time.monotonic()) > 0:
                    self._changed.wait(left)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                if suspect:
                    self._suspects -= 1
                    if not self._suspects:
                        self._closed_until = 0.0
                self._changed.notify_all()
