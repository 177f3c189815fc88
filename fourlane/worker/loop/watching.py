"""Workers watch each other: one whose silence is over is dead, and its jobs come back."""

from __future__ import annotations

import logging
import time
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.queues.beat import SILENCE_MS
from fourlane.queues.contact import STEP_SECONDS
from fourlane.queues.store import Store
from fourlane.telling import tell
from fourlane.worker.loop.recovery import Recovery
from fourlane.worker.loop.service import Service
from fourlane.worker.loop.services import Services
from fourlane.worker.loop.waits import Waits

__all__ = ["Watching"]

log = logging.getLogger("fourlane.worker")

_FRESH_SECONDS: Final = 0.05


class Watching:
    """This worker's part in it."""

    def __init__(self, store: Store, services: Services, waits: Waits, recovery: Recovery) -> None:
        self._store = store
        self._services = services
        self._waits = waits
        self._recovery = recovery

    def take_token(self, service: Service, token: str, now: float) -> None:
        """Who holds leases looks without being told, and this may be its own word: one that holds none shall have it.
        Two of those, for one of them may die with the one that told."""
        service.agenda.forget_watch()
        if not service.held:
            if now - self._waits.armed_at > _FRESH_SECONDS:
                service.watch(now + SILENCE_MS / 1000)
            else:
                service.agenda.look_next(now)  # the token was there before: what it tells of may be old
            if token == "v":
                return
            token = "v"
        service.hearing.hand_watch_on(now)
        try:
            self._store.have_watched(service.name, token)
        except RedisUnavailable as error:
            log.warning("%s", error)

    def reclaim(self, service: Service, name: str) -> None:
        """That worker's time ran out."""
        proof_at = service.contact.whole_silence_at(now := time.monotonic())
        if proof_at > now:  # it may be Redis that was silent
            service.watch(proof_at + 0.01)
            return
        try:
            back, poisoned = self._store.reclaim(service.name, name, f"worker {name} fell silent")
        except RedisUnavailable as error:
            log.warning("%s", error)
            return
        if back or poisoned:
            tell.reclaimed(service.name, name, back, len(poisoned))
        service.tiers.all_may_have_jobs()

    def keep_contact(self, now: float) -> None:
        """Who watches others must hear from Redis all the time, for only then is their silence proof of anything."""
        for service in self._services:
            if service.watches and now - service.contact.heard_at >= STEP_SECONDS:
                try:
                    self._services.link(service).command("PING")
                except RedisUnavailable as error:
                    self._recovery.failed(service, error)
                    return
                service.contact.heard(time.monotonic())
