"""What jobs and producers say they did: one line for each thing, one O_APPEND write for each line.

What is written so outlives a SIGKILL of the writer in the next instruction, and lines of many threads never mix.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

__all__ = ["Ledger", "Line", "read"]

FOLDER = "CHAOS_FOLDER"
"""The variable that names the folder of the run."""


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened.

    Of jobs: start, end, fail, given-back, cancelled, left. Of producers: meant, accepted, refused, cancel, result,
    no-result. Of the runner: replay. ``n`` is the number that the job was given as its first argument.
    """

    what: str
    at: float
    """CLOCK_MONOTONIC, which all processes of a machine share."""
    wall: float
    n: str = ""
    id: str = ""
    kind: str = ""
    attempt: int = 0
    run: int = 0
    """Of this process, to tell two runs of one job apart."""
    pid: int = 0
    parent: int = 0
    text: str = ""
    due: float = 0.0
    """When it may run; 0: at once."""


class Ledger:
    """Appends lines to a file of this process's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fd = -1
        self._pid = 0
        self._encode = msgspec.json.Encoder().encode

    def write(self, what: str, **fields: str | int | float) -> float:
        """Write a line now; returns its time."""
        pid = os.getpid()
        if self._pid != pid:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{pid}-{time.monotonic_ns()}.jsonl"
            self._fd = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
            self._pid = pid
        at = time.monotonic()
        line = Line(what=what, at=at, wall=time.time(), pid=pid, parent=os.getppid(), **fields)  # type: ignore[arg-type]
        os.write(self._fd, self._encode(line) + b"\n")
        return at


def read(folder: Path) -> Iterator[Line]:
    """All lines of a run. A last line that a full disk cut short is an error here, as it should be."""
    decode = msgspec.json.Decoder(Line).decode
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            yield decode(line)
