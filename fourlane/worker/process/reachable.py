"""The start of a worker while Redis loads its data, fails over or is not there yet: it waits, as it does later."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

from fourlane.errors import RedisUnavailable
from fourlane.queues.redis import may_come

__all__ = ["when_reachable"]

log = logging.getLogger("fourlane.worker")

T = TypeVar("T")

_LONGEST_PAUSE_SECONDS: Final = 2.0
_TELL_SECONDS: Final = 10.0


def when_reachable(call: Callable[[], T], wait_seconds: float, hear: Callable[[str], None] | None = None) -> T:
    """Call it, again and again until Redis takes it, but no longer than this, and only where waiting can help.

    ``hear`` is told, each time, why it waits.
    """
    began = time.monotonic()
    pause, told_at = 0.1, -_TELL_SECONDS
    while True:
        try:
            return call()
        except RedisUnavailable as error:
            waited = time.monotonic() - began
            if waited >= wait_seconds or not may_come(error):
                raise
            if hear is not None:
                hear(str(error))
            if waited - told_at >= _TELL_SECONDS:
                told_at = waited
                log.warning("%s; trying again", error)
        time.sleep(min(pause, wait_seconds - waited))
        pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)
