"""What tenants spend in a month."""

from __future__ import annotations

from typing import Final

from fourlane.queues.guards.index import Index
from fourlane.queues.redis.replies import fields
from fourlane.queues.store import Store

__all__ = ["Budgets"]

_KEPT_MS: Final = 70 * 86_400_000


class Budgets:
    """What tenants spend in a month, in Redis, in millionths of a dollar."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._index = Index(store, store.keys.spenders, _KEPT_MS)

    def reserve(self, tenant: str, month: str, call_id: str, micro_usd: int, budget: int) -> tuple[str, int]:
        """``ok``, ``warn`` (it passes 80 %) or ``over`` (nothing was reserved), and what is spent and reserved."""
        self._index.announce(f"{month}|{tenant}")
        return self._run(tenant, month, ("reserve", call_id, micro_usd, budget))

    def settle(self, tenant: str, month: str, call_id: str, micro_usd: int, counted: tuple[str, ...]) -> None:
        """Book what a reserved call cost, also under the names of ``counted``; once, however often it is called."""
        self._run(tenant, month, ("settle", call_id, micro_usd, -1, *counted))

    def look(self, tenant: str, month: str) -> dict[str, int]:
        """``spent``, ``reserved``, and the cost under each name."""
        key = self._store.keys.spent(tenant, month)
        found = fields(self._store.connector.command(key, "HGETALL", key))
        return {name.removeprefix("of:"): int(micro) for name, micro in found.items() if not name.startswith("r:")}

    def tenants(self, month: str) -> list[str]:
        """Those that reserved anything in a month, by name."""
        found = (member.partition("|") for member in self._index.members())
        return sorted(tenant for spent_in, _, tenant in found if spent_in == month)

    def _run(self, tenant: str, month: str, args: tuple[object, ...]) -> tuple[str, int]:
        keys = self._store.keys
        word, so_far = self._store.connector.run_once(
            "budget", (keys.spent(tenant, month),), args, keys.spent_sent(tenant), marks=True
        )
        return word.decode(), int(so_far)
