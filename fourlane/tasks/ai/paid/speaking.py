"""What a model says goes to the job's output as it comes."""

from __future__ import annotations

import logging

from fourlane.errors import LeaseLost
from fourlane.tasks.context import running

__all__ = ["Speaker"]

log = logging.getLogger("fourlane.ai")


class Speaker:
    """Writes to the output of the job that runs here. Nothing that befalls the output ends a call that is paid for."""

    def __init__(self, *, silent: bool = False) -> None:
        run = running.get()
        self._output = None if run is None or silent else run.output

    def begin(self) -> None:
        """A call that is made again says all of it again."""
        if self._output is not None:
            self._output.begin()

    def say(self, text: str) -> None:
        if self._output is None or not text:
            return
        try:
            self._output.write(text)
        except LeaseLost:
            raise  # another worker has the job, and pays for itself
        except Exception:
            log.exception("the output of an AI call is not shown further")
            self._output = None
