"""What the loop does when a call of Redis failed, or was refused."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.outcome import Back, Outcome
from fourlane.queues.redis import is_refusal
from fourlane.queues.refusals import instead_of
from fourlane.queues.store import Store
from fourlane.worker.loop.service import Service
from fourlane.worker.loop.services import Services
from fourlane.worker.loop.settling import Settling
from fourlane.worker.loop.waits import Waits

__all__ = ["Recovery"]

log = logging.getLogger("fourlane.worker")

_BLOCK_SECONDS: Final = 2.0
_LONGEST_PAUSE_SECONDS: Final = 2.0


class Recovery:
    """No answer: all wait, longer each time. A refusal: the service is taken apart from the others, then its jobs."""

    def __init__(self, store: Store, services: Services, waits: Waits, *, in_haste: Callable[[], bool]) -> None:
        """
        Parameters:
          in_haste: the worker is to stop at once, and waits no more.
        """
        self.failures = 0
        """Calls that failed since one was answered."""
        self._store = store
        self._services = services
        self._waits = waits
        self._in_haste = in_haste

    def answered(self) -> None:
        """Redis is there."""
        self.failures = 0

    def refused_or_failed(self, service: Service, error: RedisUnavailable, settling: Settling | None = None) -> None:
        """A call for this service; ``settling`` what it was to settle."""
        if not is_refusal(error):
            self.failed(service, error)
        elif settling is None or not settling.size:
            self._block(service, error)
        elif settling.size == service.settles_at_most == 1:
            [(entry, outcome)] = service.take_uncertain(1)
            self.settle_otherwise(service, entry, outcome, str(error))
        else:
            # One of them may be what Redis does not take: fewer at once, until it is known which.
            service.settle_fewer(max(1, settling.size // 2))
            log.warning("service=%s: %s; settling %d at once", service.name, error, service.settles_at_most)

    def _block(self, service: Service, error: RedisUnavailable) -> None:
        """Redis answered this service with an error, such as a key of the wrong type. The others go on."""
        log.error("service=%s blocked for %g s: %s", service.name, _BLOCK_SECONDS, error)
        service.block(time.monotonic() + _BLOCK_SECONDS)

    def settle_otherwise(self, service: Service, entry: str, outcome: Outcome, why: str) -> None:
        """Redis refused to write how this job ended (queues/refusals.py). The way back waits a while."""
        log.error("job=%s service=%s: Redis refused how it ended: %s", entry.partition("|")[0], service.name, why)
        instead = instead_of(outcome, why)
        service.settle(entry, instead)
        if type(instead) is Back:
            service.block(time.monotonic() + _BLOCK_SECONDS)

    def failed(self, service: Service, error: RedisUnavailable) -> None:
        """Redis did not answer. Wait longer each time; what finished meanwhile is kept."""
        service.contact.broke(time.monotonic())
        self.failures += 1
        if self.failures in (1, 10) or self.failures % 100 == 0:
            log.warning("%s; trying again", error)
        self._waits.drop()
        self._services.drop_link(service)
        self._pause()
        try:
            self._store.connector.refresh()
        except RedisUnavailable as again:
            log.debug("%s", again)
        service.tiers.all_may_have_jobs()

    def _pause(self) -> None:
        seconds = min(_LONGEST_PAUSE_SECONDS, 0.05 * 2 ** min(self.failures, 6))
        deadline = time.monotonic() + seconds
        while not self._in_haste() and (left := deadline - time.monotonic()) > 0:
            self._waits.sleep_deaf(left)
