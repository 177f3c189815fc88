"""One round of what is done about batches: submit what waits, look at what is under way, deliver what has come."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from fourlane.errors import FourlaneError
from fourlane.providers.ai import read_error
from fourlane.providers.ai.batches import MOST_REQUESTS, has_batches
from fourlane.providers.ai.errors import status_of
from fourlane.queues.guards import Batches, Places
from fourlane.queues.store import Store
from fourlane.tasks.ai.batches.looking import Looking
from fourlane.tasks.ai.batches.provider import Caller
from fourlane.tasks.ai.batches.submitting import Submitting
from fourlane.tasks.ai.config import AiConfig
from fourlane.tasks.ai.figures import words_of

__all__ = ["collect"]

log = logging.getLogger("fourlane.ai")

_SERVICE: Final = "maintenance"
_PLACE: Final = "ai-batches"
_HOLD_MS: Final = 60_000
_RENEW_SECONDS: Final = 15.0


async def collect(store: Store, config: AiConfig, *, who: str, now_ms: Callable[[], int] | None = None) -> bool:
    """One round; False: another one is at it, among all workers.

    Parameters:
      who: of a run that was given back and begins again the same.
      now_ms: the time, since 1970.
    """
    async with _alone(store, who) as is_alone:
        if is_alone:
            for provider in MOST_REQUESTS:
                await _of_provider(store, config, provider, now_ms or _now_ms)
        return is_alone


async def _of_provider(store: Store, config: AiConfig, provider: str, now_ms: Callable[[], int]) -> None:
    """What befalls one provider keeps no other back."""
    if not config.api_keys.get(provider):
        return
    caller, batches = Caller(config, provider), Batches(store, provider)
    if not has_batches(caller.account):
        return
    for part in (Submitting(store, batches, caller, now_ms), Looking(store, batches, caller, now_ms)):
        try:
            await part.round()
        except Exception as error:  # the next round tries again
            if isinstance(error, FourlaneError) or read_error(error).verdict != "neutral" or status_of(error):
                log.warning("batches of %s: %s", provider, words_of(error))
            else:
                log.exception("batches of %s", provider)


@asynccontextmanager
async def _alone(store: Store, who: str) -> AsyncIterator[bool]:
    """Hold the one place, as long as this takes."""
    places = Places(store)

    def hold() -> bool:
        return places.hold(_SERVICE, _PLACE, who, places=1, hold_ms=_HOLD_MS)

    if not await asyncio.to_thread(hold):
        yield False
        return
    renewing = asyncio.create_task(_renew(hold))
    try:
        yield True
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing
        await asyncio.to_thread(places.let_go, _SERVICE, _PLACE, who)


async def _renew(hold: Callable[[], Any]) -> None:
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        await asyncio.to_thread(hold)


def _now_ms() -> int:
    return int(time.time() * 1000)
