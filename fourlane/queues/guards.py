"""What all workers hold in common about services outside: limits, breakers and budgets."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from fourlane.queues.store import Store

__all__ = ["Budgets", "ProviderState", "ProviderStates"]

_DAY_MS: Final = 86_400_000
_SPENT_MS: Final = 70 * _DAY_MS
_ANNOUNCE_SECONDS: Final = 3_600.0
_MOST_ANNOUNCED: Final = 10_000


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


class _Index:
    """A list in Redis of what is in use; a process tells it of each once an hour."""

    def __init__(self, store: Store, key: bytes, keep_ms: int) -> None:
        self._store, self._key, self._keep_ms = store, key, keep_ms
        self._announced: dict[str, float] = {}

    def announce(self, member: str) -> None:
        now = time.monotonic()
        if now - self._announced.get(member, -_ANNOUNCE_SECONDS) < _ANNOUNCE_SECONDS:
            return
        now_ms = int(time.time() * 1000)
        self._store.connector.run("announce", (self._key,), (now_ms, now_ms - self._keep_ms, member))
        if len(self._announced) >= _MOST_ANNOUNCED:
            self._announced.clear()
        self._announced[member] = now

    def members(self) -> list[str]:
        since_ms = int(time.time() * 1000) - self._keep_ms
        told = self._store.connector.command(self._key, "ZRANGEBYSCORE", self._key, since_ms, "+inf")
        return [member.decode() for member in told]


class ProviderStates:
    """The states of providers in Redis; one hash for each provider, model and key."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._index = _Index(store, store.keys.providers, _DAY_MS)

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
        self._index.announce(f"{provider}|{name}")
        key = self._store.keys.health(provider, name)
        args = (requests_per_minute, tokens_per_minute, tokens, probe_ms, ramp_ms)
        sent = self._store.keys.health_sent(provider)
        word, wait_ms, second = self._store.connector.run_once("provider_reserve", (key,), args, sent, marks=True)
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
        sent = self._store.keys.health_sent(provider)
        self._store.connector.run_once("provider_settle", (key,), args, sent)

    def look(self) -> list[ProviderState]:
        """All that were used within a day, by provider and name."""
        found = []
        for member in self._index.members():
            provider, _, name = member.partition("|")
            fields = _fields(self._store, self._store.keys.health(provider, name))
            found.append(_read(provider, name, {field: int(float(value)) for field, value in fields.items()}))
        return sorted(found)


def _fields(store: Store, key: bytes) -> dict[str, bytes]:
    """A hash."""
    reply = store.connector.command(key, "HGETALL", key)
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {field.decode(): value for field, value in pairs}


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
        self._index = _Index(store, store.keys.spenders, _SPENT_MS)

    def reserve(self, tenant: str, month: str, call_id: str, micro_usd: int, budget: int) -> tuple[str, int]:
        """``ok``, ``warn`` (it passes 80 %) or ``over`` (nothing was reserved), and what is spent and reserved."""
        self._index.announce(f"{month}|{tenant}")
        return self._run(tenant, month, ("reserve", call_id, micro_usd, budget))

    def settle(self, tenant: str, month: str, call_id: str, micro_usd: int, counted: tuple[str, ...]) -> None:
        """Book what a reserved call cost, also under the names of ``counted``; once, however often it is called."""
        self._run(tenant, month, ("settle", call_id, micro_usd, -1, *counted))

    def look(self, tenant: str, month: str) -> dict[str, int]:
        """``spent``, ``reserved``, and the cost under each name."""
        found = _fields(self._store, self._store.keys.spent(tenant, month))
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
