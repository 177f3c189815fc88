"""``fourlane doctor``."""

from __future__ import annotations

from fourlane.queues.store import Store
from tests.command import command as command
from tests.commands.conftest import Run, read


def test_doctor(run: Run, store: Store) -> None:
    assert {"ok"} <= {f["level"] for f in read(run("doctor", "--json"))["findings"]}
    store.connector.command(store.service("mail").jobs, "SET", store.service("mail").records, "x")
    result = run("doctor", code=1)
    assert "error  types" in result.stdout
    assert "→" in result.stdout
