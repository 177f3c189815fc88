"""A provider's batch API, called as its health and limits allow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar

from fourlane.providers.ai import batches, read_error
from fourlane.providers.ai.batches import Batch, Result
from fourlane.providers.health import Rules
from fourlane.tasks.ai.config import AiConfig
from fourlane.tasks.health import health

__all__ = ["Caller"]

T = TypeVar("T")

_CALL_SECONDS: Final = 60.0
_SUBMIT_SECONDS: Final = 300.0
_CHUNK: Final = 100


class Caller:
    """Calls it. Raises ProviderDown, ProviderLimited, and what the SDK raises."""

    def __init__(self, config: AiConfig, provider: str) -> None:
        self.config = config
        self.provider = provider
        self.account = config.account(provider, _CALL_SECONDS)
        self._target = config.target(f"{provider}/batches")

    async def submit(self, name: str, requests: list[tuple[str, bytes]]) -> str:
        return await self._call(lambda: batches.submit(self.account, name, requests), _SUBMIT_SECONDS)

    async def cancel(self, batch_id: str) -> None:
        await self._call(lambda: batches.cancel(self.account, batch_id), _CALL_SECONDS)

    async def look(self, batch_id: str) -> Batch | None:
        return await self._call(lambda: batches.look(self.account, batch_id), _CALL_SECONDS)

    async def latest(self, since_ms: int) -> list[Batch]:
        """Those of the account from that time on, the newest first."""

        async def list_them() -> list[Batch]:
            return [batch async for batch in batches.latest(self.account, since_ms)]

        return await self._call(list_them, _CALL_SECONDS)

    async def results(self, batch: Batch, take: Callable[[list[Result]], Awaitable[bool]]) -> None:
        """Hand the results over, some at a time, until ``take`` says that it has enough."""

        async def stream() -> None:
            async for some in _in_chunks(batches.results(self.account, batch)):
                if not await take(some):
                    return

        await self._call(stream, _SUBMIT_SECONDS)

    async def _call(self, call: Callable[[], Awaitable[T]], seconds: float) -> T:
        rules = Rules(retries_ms=(), patience_seconds=0, timeout_seconds=seconds)
        return await health.here().acall(self._target, rules, lambda permit: call(), read=read_error)


async def _in_chunks(found: AsyncIterator[Any]) -> AsyncIterator[list[Any]]:
    some: list[Any] = []
    async for one in found:
        some.append(one)
        if len(some) == _CHUNK:
            yield some
            some = []
    if some:
        yield some
