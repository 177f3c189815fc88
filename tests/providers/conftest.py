"""Limits and breakers on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fourlane.providers.health import HealthGuard
from fourlane.queues.guards import ProviderStates
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.store import Store


@pytest.fixture
def store(redis_url: str, namespace: str) -> Iterator[Store]:
    store = Store(Connector(client_of(redis_url)), namespace=namespace)
    yield store
    store.connector.close()


@pytest.fixture
def states(store: Store) -> ProviderStates:
    return ProviderStates(store)


@pytest.fixture
def guard(states: ProviderStates) -> HealthGuard:
    return HealthGuard(states)
