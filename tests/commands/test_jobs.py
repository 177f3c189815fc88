"""``fourlane jobs``."""

from __future__ import annotations

from fourlane.queues.store import Store
from tests.commands.conftest import Run, read
from tests.queues.conftest import Hand


def test_jobs(run: Run, hand: Hand, store: Store) -> None:
    [job_id] = hand.enqueue()
    told = run("jobs", "show", job_id).stdout
    assert "ready" in told
    assert "send" in told
    assert read(run("jobs", "show", job_id, "--json"))["kwargs"] == {"to": "x"}
    run("jobs", "cancel", job_id, code=2)
    assert read(run("jobs", "cancel", job_id, "--yes", "--json")) == {"id": job_id, "was": "ready"}
    assert "already" in run("jobs", "cancel", job_id, "--yes").stdout
    for words in (["jobs", "show", "nope"], ["jobs", "cancel", "nope", "--yes"], ["dead", "show", "nope"]):
        result = run(*words, code=1)
        assert result.stderr.startswith("error: there is no ")
        assert len(result.stderr.splitlines()) == 1
