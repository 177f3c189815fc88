"""The states of providers as all workers see them: breakers, and what was booked against limits a minute."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from fourlane.queues.guards.index import Index
from fourlane.queues.redis.replies import fields
from fourlane.queues.store import Store

__all__ = ["ProviderState", "ProviderStates"]

_KEPT_MS: Final = 86_400_000


class ProviderState(NamedTuple):
    """A provider's model and key as all workers see it now.

    Parameters:
      state: ``closed`` (calls go through), ``open``, or ``probing`` (open, the next call tries).
      failures: calls that failed in a row, each counted once.
      opened: how often the breaker has opened.
      wait_ms: until a call that is none of these may be made; 0 when it may be now.
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
        self._index = Index(store, store.keys.providers, _KEPT_MS)

    def reserve(
        self,
        provider: str,
        name: str,
        *,
        caller: int,
        requests_per_minute: int,
        tokens_per_minute: int,
        tokens: int,
        claim_ms: int,
        ramp_ms: int,
    ) -> tuple[str, int, int]:
        """Ask for a call (lua/provider_reserve.lua): its word, a number, the second."""
        self._index.announce(f"{provider}|{name}")
        key = self._store.keys.health(provider, name)
        args = (requests_per_minute, tokens_per_minute, tokens, claim_ms, ramp_ms, caller)
        sent = self._store.keys.health_sent(provider)
        word, number, second = self._store.connector.run_once("provider_reserve", (key,), args, sent, marks=True)
        return word.decode(), int(number), int(second)

    def settle(
        self,
        provider: str,
        name: str,
        *,
        caller: int,
        verdict: str,
        second: int,
        extra_tokens: int,
        claim: int,
        failures: int,
        open_ms: int,
        probe_ms: int,
        silence_ms: int,
    ) -> None:
        """Book how it ended, or that it gave its first sign of life (lua/provider_settle.lua)."""
        key = self._store.keys.health(provider, name)
        args = (verdict, second, extra_tokens, claim, failures, open_ms, silence_ms, caller, probe_ms)
        sent = self._store.keys.health_sent(provider)
        self._store.connector.run_once("provider_settle", (key,), args, sent)

    def look(self) -> list[ProviderState]:
        """All that were used within a day, by provider and name."""
        return sorted(self._one(*member.split("|", 1)) for member in self._index.members())

    def _one(self, provider: str, name: str) -> ProviderState:
        key = self._store.keys.health(provider, name)
        told = fields(self._store.connector.command(key, "HGETALL", key))
        return _read(provider, name, {field: int(float(value)) for field, value in told.items()})


def _read(provider: str, name: str, known: dict[str, int]) -> ProviderState:
    now_ms = int(time.time() * 1000)
    since = now_ms // 1000 - 60
    minute = {k: v for k, v in known.items() if k[1] == ":" and int(k[2:]) >= since}
    until = known.get("opened_until", 0) and min(known["opened_until"], known.get("probe_at", known["opened_until"]))
    return ProviderState(
        provider,
        name,
        "closed" if not until else "open" if until > now_ms else "probing",
        known.get("failures", 0),
        known.get("opened", 0),
        max(0, until - now_ms, known.get("silent_until", 0) - now_ms),
        sum(v for k, v in minute.items() if k[0] == "r"),
        sum(v for k, v in minute.items() if k[0] == "t"),
    )
