"""What a worker process is told by its supervisor, through a pipe. The end of that is the death of the supervisor."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO, NoReturn

import msgspec

from fourlane.worker.process.protocol import BeatHearer, Spec, Told

__all__ = ["listen", "read_spec", "take_stdin"]


def take_stdin() -> IO[bytes]:
    """The pipe. User code, and programs that it starts, find an empty stdin instead."""
    pipe = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return pipe


def read_spec(pipe: IO[bytes]) -> Spec:
    """The first line."""
    return msgspec.json.decode(pipe.readline(), type=Spec)


def listen(pipe: IO[bytes], loop: BeatHearer, order: Callable[[int], None]) -> NoReturn:
    """Pass on all that comes; ``order`` takes orders to declare. The process ends with its supervisor."""
    for line in pipe:
        told = msgspec.json.decode(line, type=Told)
        for service, name in told.lost:
            loop.told_lost(service, name)
        if told.cancelled:
            loop.told_cancelled(set(told.cancelled))
        if told.declare:
            order(told.declare)
    os._exit(1)
