"""``fourlane workers``."""

from __future__ import annotations

import msgspec

from fourlane.queues import browse
from fourlane.queues.store import Store
from tests.command import command as command
from tests.commands.conftest import QUEUE, Run, read


def test_workers(run: Run, store: Store) -> None:
    assert "no workers" in run("workers").stdout
    said = {"host": "box", "pid": 4321, "seen_ms": browse.now_ms(store), "slots": 8, "queues": [QUEUE]}
    store.connector.command(store.keys.presence, "HSET", store.keys.presence, "w", msgspec.json.encode(said))
    table = run("workers").stdout
    assert "box" in table
    assert "4321" in table
    assert read(run("workers", "--json"))["workers"][0]["name"] == "w"
