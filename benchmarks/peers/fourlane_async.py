"""The async job of Fourlane: 20 ms of sleep on the event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import fourlane
from benchmarks.jobs import SLEEP_SECONDS, finish

__all__ = ["async_sleep"]


@fourlane.task(tier="P2", service="bench")
async def async_sleep(payload: dict[str, Any]) -> None:
    await asyncio.sleep(SLEEP_SECONDS)
    finish()
