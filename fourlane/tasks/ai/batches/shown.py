"""What is to be seen of batches: those that are not over, and the requests that wait for one."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fourlane.providers.ai.batches import MOST_REQUESTS
from fourlane.queues.guards import Batches
from fourlane.queues.store import Store
from fourlane.tasks.ai.batches.records import Open

__all__ = ["Shown", "shown"]


class Shown(NamedTuple):
    """A batch, or the requests for one model that wait.

    Parameters:
      batch: our name; empty for those that wait. id: the provider's.
      since_ms: since 1970: when it was begun, or when the oldest request came.
      state: ``waits``, as in ``Open``, or what the provider says.
    """

    provider: str
    model: str
    batch: str
    id: str
    requests: int
    answered: int
    since_ms: int
    state: str


def shown(store: Store) -> list[Shown]:
    """All of them, the oldest first."""
    return sorted(
        (one for provider in MOST_REQUESTS for one in _of(Batches(store, provider), provider)),
        key=lambda one: one.since_ms,
    )


def _of(batches: Batches, provider: str) -> list[Shown]:
    found: list[Shown] = []
    for model in batches.collections():
        number, oldest_ms = batches.waiting(model)
        if number:
            found.append(Shown(provider, model, "", "", number, 0, oldest_ms, "waits"))
    for name, kept in batches.open().items():
        one = msgspec.json.decode(kept, type=Open)
        state = (one.word or one.state) if one.state == "sent" else one.state
        number = one.requests or batches.size(name)
        found.append(Shown(provider, one.model, name, one.id, number, one.answered, one.formed_ms, state))
    return found
