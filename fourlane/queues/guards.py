"""What all workers hold in common about services outside: limits, breakers and budgets."""

from __future__ import annotations

import time
from typing import NamedTuple

from fourlane.queues.store import Store

__all__ = ["ProviderState", "ProviderStates"]

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
