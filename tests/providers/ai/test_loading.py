"""SDKs are loaded beside the event loop."""

from __future__ import annotations

import subprocess
import sys

LOADS = """
import asyncio, sys, time
from fourlane.providers.ai.loading import loaded

async def main():
    assert "openai" not in sys.modules
    beats = 0
    async def beat():
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0.001)
    beating = asyncio.ensure_future(beat())
    first = asyncio.ensure_future(loaded("openai"))
    await asyncio.sleep(0)
    first.cancel()  # the others wait for it all the same
    await asyncio.gather(*(loaded(name) for name in ("openai", "openrouter")))
    assert "openai" in sys.modules and beats > 5, beats
    await loaded("perplexity")
    await loaded("nobody")
asyncio.run(main())
"""


def test_the_event_loop_goes_on_while_an_sdk_is_loaded() -> None:
    subprocess.run([sys.executable, "-c", LOADS], check=True, timeout=60)
