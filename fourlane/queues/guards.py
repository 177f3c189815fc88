"""What all workers hold in common about services outside: limits, breakers and budgets."""

from __future__ import annotations

import time
from typing import NamedTuple

from fourlane.queues.store import Store

__all__ = ["Budgets", "ProviderState", "ProviderStates"]

_INDEX_MS = 86_400_000


class ProviderState(NamedTuple):
    """A provider's model and key as all workers see it now.

    Parameters:
      state: ``closed`` (calls go through), ``open``, or ``probing`` (open, the next call tries).
      failures: failed calls in a row.
      opened: how often the breaker has opened.
      wait_ms: until a call may be made again; 0 when it may be now.
      requests, tokens: booked in the last minute, where there is a limit.
    """

    provider: str
    name: str
    state: str
    failures: int
    opened: int
    wait_ms: int
    requests: int
    tokens: int


class ProviderStates:
    """The states of providers in Redis; one hash for each provider, model and key."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._announced: dict[tuple[str, str], float] = {}

    def reserve(
        self,
        provider: str,
        name: str,
        *,
        requests_per_minute: int,
        tokens_per_minute: int,
        tokens: int,
        probe_ms: int,
        ramp_ms: int,
    ) -> tuple[str, int, int]:
        """Ask for a call (lua/provider_reserve.lua): its word, milliseconds to wait, the second it is booked under."""
        self._announce(provider, name)
        key = self._store.keys.health(provider, name)
        args = (requests_per_minute, tokens_per_minute, tokens, probe_ms, ramp_ms)
        word, wait_ms, second = self._store.connector.run("provider_reserve", (key,), args)
        return word.decode(), int(wait_ms), int(second)

    def settle(
        self,
        provider: str,
        name: str,
        *,
        verdict: str,
        second: int,
        extra_tokens: int,
        probe: bool,
        failures: int,
        open_ms: int,
        silence_ms: int,
    ) -> None:
        """Book how it ended (lua/provider_settle.lua)."""
        key = self._store.keys.health(provider, name)
        args = (verdict, second, extra_tokens, int(probe), failures, open_ms, silence_ms)
        self._store.connector.run("provider_settle", (key,), args)

    def look(self) -> list[ProviderState]:
        """All that were used within a day, by provider and name."""
        store = self._store
        index = store.keys.providers
        told = store.connector.command(index, "ZRANGE", index, 0, -1)
        found = []
        for member in told:
            provider, _, name = member.decode().partition("|")
            key = store.keys.health(provider, name)
            reply = store.connector.command(key, "HGETALL", key)
            pairs = list(reply.items()) if isinstance(reply, dict) else list(zip(reply[::2], reply[1::2], strict=True))
            if pairs:
                found.append(_read(provider, name, {k.decode(): int(float(v)) for k, v in pairs}))
        return sorted(found)

    def _announce(self, provider: str, name: str) -> None:
        """Put it on the list of those that are in use; once an hour."""
        now = time.monotonic()
        if now - self._announced.get((provider, name), -3_600.0) < 3_600:
            return
        index, now_ms = self._store.keys.providers, int(time.time() * 1000)
        self._store.connector.command(index, "ZADD", index, now_ms, f"{provider}|{name}")
        self._store.connector.command(index, "ZREMRANGEBYSCORE", index, "-inf", now_ms - _INDEX_MS)
        self._announced[provider, name] = now


def _read(provider: str, name: str, fields: dict[str, int]) -> ProviderState:
    now_ms = int(time.time() * 1000)
    since = now_ms // 1000 - 60
    minute = {k: v for k, v in fields.items() if k[1] == ":" and int(k[2:]) >= since}
    until = fields.get("opened_until", 0)
    return ProviderState(
        provider,
        name,
        "closed" if not until else "open" if until > now_ms else "probing",
        fields.get("failures", 0),
        fields.get("opened", 0),
        max(0, until - now_ms, fields.get("silent_until", 0) - now_ms),
        sum(v for k, v in minute.items() if k[0] == "r"),
        sum(v for k, v in minute.items() if k[0] == "t"),
    )


class Budgets:
    """What tenants spend in a month, in Redis, in millionths of a dollar."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def reserve(self, tenant: str, month: str, call_id: str, micro_usd: int, budget: int) -> tuple[str, int]:
        """``ok``, ``warn`` (it passes 80 %) or ``over`` (nothing was reserved), and what is spent and reserved."""
        return self._run(tenant, month, ("reserve", call_id, micro_usd, budget))

    def settle(self, tenant: str, month: str, call_id: str, micro_usd: int, counted: tuple[str, ...]) -> None:
        """Book what a reserved call cost, also under the names of ``counted``; once, however often it is called."""
        self._run(tenant, month, ("settle", call_id, micro_usd, -1, *counted))

    def look(self, tenant: str, month: str) -> dict[str, int]:
        """``spent``, ``reserved``, and the cost under each name."""
        key = self._store.keys.spent(tenant, month)
        reply = self._store.connector.command(key, "HGETALL", key)
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        found = {k.decode(): int(v) for k, v in pairs}
        return {k.removeprefix("of:"): v for k, v in found.items() if not k.startswith("r:")}

    def _run(self, tenant: str, month: str, args: tuple[object, ...]) -> tuple[str, int]:
        word, so_far = self._store.connector.run("budget", (self._store.keys.spent(tenant, month),), args)
        return word.decode(), int(so_far)
