"""The providers' health as all workers of one Redis hold it, for tasks that call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from fourlane.providers.health import HealthGuard, Rules, Target
from fourlane.providers.signals import Signal
from fourlane.queues.guards import ProviderStates, Turns
from fourlane.queues.store import Store
from fourlane.tasks.context import running
from fourlane.tasks.task import default_broker

__all__ = ["PerStore", "health", "in_turn", "when_well"]

T = TypeVar("T")


class PerStore(Generic[T]):
    """One of a kind for each store that jobs of this process come from."""

    def __init__(self, make: Callable[[Store], T]) -> None:
        self._make = make
        self._made: dict[int, tuple[Store, T]] = {}

    def here(self) -> T:
        """For the job that runs here; outside of a job, for the default broker's store."""
        run = running.get()
        store = default_broker().store if run is None else run.store
        made = self._made.get(id(store))
        if made is None:
            made = self._made.setdefault(id(store), (store, self._make(store)))
        return made[1]


health: Final = PerStore(lambda store: HealthGuard(ProviderStates(store)))
_turns: Final = PerStore(Turns)


def in_turn(target: Target, *, per_second: float, patience_seconds: float) -> None:
    """Wait until a job may call a provider that takes so many calls a second. Outside of a job nobody waits.

    Parameters:
      patience_seconds: the longest wait.

    Raises:
      ProviderLimited: it would take longer; the job is postponed, and spends no attempt.
      RedisUnavailable
    """
    if running.get() is not None:
        _turns.here().take(target.provider, target.name, per_second=per_second, patience_seconds=patience_seconds)


def when_well(
    target: Target, call: Callable[[], T], *, read: Callable[[BaseException], Signal], timeout_seconds: float = 30.0
) -> T:
    """Make a call, which repeats itself where that helps, when its provider's health lets it through.

    A job that would have to wait gives its slot back, and one that fails again and again counts once for the breaker.
    Outside of a job the call is just made, without any Redis.

    Parameters:
      read: what an error of it says of the provider.

    Raises:
      ProviderDown, ProviderLimited: the job is postponed, and spends no attempt.
      whatever the call raised.
    """
    run = running.get()
    if run is None:
        return call()
    rules = Rules(retries_ms=(), patience_seconds=0, timeout_seconds=timeout_seconds)
    return health.here().call(target, rules, lambda permit: call(), read=read, call_id=run.context.id)
