"""What a running job says to those who look: output, log lines, progress."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from concurrent.futures import Future
from typing import Any, Final

import msgspec

from fourlane.errors import FourlaneError
from fourlane.queues.carry import Held, refuse_lost
from fourlane.queues.journal import Journal, Lease
from fourlane.queues.output import SEALED_BEGINS, Progress

__all__ = ["MAX_OUTPUT_CHARACTERS", "Output"]

MAX_OUTPUT_CHARACTERS: Final = 1_048_576
_MAX_LINE: Final = 1_000
_FLUSH_SECONDS: Final = 5.0
_logger = logging.getLogger("fourlane.output")


class Output:
    """The output of one run. Writing does not wait; what cannot be kept is logged, and never fails the job.

    Once the job's lease is known to be lost, each method that writes raises LeaseLost.
    """

    def __init__(self, journal: Journal, lease: Lease, run: Held) -> None:
        self._journal = journal
        self._lease = lease
        self._of = run
        self._run = uuid.uuid4().hex[:12]
        self._left = MAX_OUTPUT_CHARACTERS
        self._last: dict[str, Future[Any]] = {}

    def write(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"output is text, not {type(text).__name__}")
        if self._left > 0 and text:
            self._say("text", text[: self._left])
            self._left -= len(text)

    def begin(self) -> None:
        """Begin anew: what was written so far is void."""
        if self._left < MAX_OUTPUT_CHARACTERS:
            self._run = uuid.uuid4().hex[:12]
            self._left = MAX_OUTPUT_CHARACTERS

    def end(self) -> None:
        """Nothing more comes: readers need not wait for the end of the job."""
        self._say("end", "", now=True)

    def log(self, line: str) -> None:
        self._say("log", str(line).lstrip(SEALED_BEGINS.decode())[:_MAX_LINE])

    def progress(self, done: float, text: str = "") -> None:
        if not 0 <= done <= 1:
            raise ValueError(f"progress goes from 0 to 1, not {done!r}")
        told = Progress(float(done), str(text)[:_MAX_LINE], int(time.time() * 1000))
        self._say("progress", msgspec.json.encode(told).decode())

    def _say(self, kind: str, text: str, *, now: bool = False) -> None:
        refuse_lost(self._of)
        self._last[kind] = self._journal.say(self._lease, kind, self._run, text, now=now)

    def flush(self) -> None:
        """Wait until it is kept, some seconds at most: a job that is settled may not write any more."""
        for future in self._flushed():
            try:
                future.result(_FLUSH_SECONDS)
            except (FourlaneError, TimeoutError) as error:
                _logger.warning("output of job %s was not kept: %s", self._lease.job_id, error or "too slow")

    async def aflush(self) -> None:
        """As flush, without blocking the event loop."""
        for future in self._flushed():
            try:
                await asyncio.wait_for(asyncio.wrap_future(future), _FLUSH_SECONDS)
            except (FourlaneError, TimeoutError) as error:
                _logger.warning("output of job %s was not kept: %s", self._lease.job_id, error or "too slow")

    def _flushed(self) -> list[Future[Any]]:
        waiting = [future for future in self._last.values() if not future.done()]
        if waiting:
            self._journal.flush()
        return waiting
