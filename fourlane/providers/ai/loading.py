"""Loads an SDK beside the event loop: it takes a second or two, in which no other call would hear of its answer."""

from __future__ import annotations

import asyncio
import gc
import importlib
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

__all__ = ["loaded"]

_MODULES: Final = {"anthropic": "anthropic", "google": "httpx2"}  # Google's own is not needed for a conversation
_loading: dict[str, Future[None]] = {}


async def loaded(provider: str) -> None:
    """Have what calls a provider loaded, once in a process. Of one that is not installed the call complains."""
    module = _MODULES.get(provider, "openai")
    loading = _loading.get(module)
    if loading is None:
        loading = _loading[module] = Future()
        threading.Thread(target=_load, args=(module, loading), name=f"fourlane-load-{module}", daemon=True).start()
    if not loading.done():
        await asyncio.shield(asyncio.wrap_future(loading))


def _load(module: str, loading: Future[None]) -> None:
    with suppress(Exception):
        importlib.import_module(module)
        if gc.get_freeze_count():  # a worker: what stays in it is not for the collector to look at again and again
            gc.freeze()
    loading.set_result(None)
