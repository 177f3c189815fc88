"""What goes wrong is told once to those whose channel it is, and its end too: a real worker, over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fourlane.db.engine import Database
from fourlane.errors import SettingsError
from fourlane.queues.guards import ProviderStates
from fourlane.queues.status import Trouble
from fourlane.queues.store import Store
from fourlane.tasks.alerts import tell
from tests.command import Command
from tests.notifications.standins import Providers
from tests.queues.conftest import store as store
from tests.servers import eventually

WRONG = Trouble("NoWorker", "mail", "3 job(s) wait")
SLOW = Trouble("TierPastTarget", "q", "q: waited")


class Sent:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bool, str]] = []
        self.keys: list[str] = []
        self.error: Exception | None = None

    def __call__(self, summary: str, **given: Any) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append((given["incident"], given["resolved"], given["severity"]))
        self.keys.append(given["dedup_key"])


@pytest.fixture
def sent() -> Sent:
    return Sent()


def test_the_life_of_an_incident(store: Store, sent: Sent) -> None:
    tell(store, [WRONG], 1_000, sent)
    assert sent.calls == []  # it may be over in a moment
    tell(store, [WRONG], 61_000, sent)
    tell(store, [WRONG], 121_000, sent)
    assert sent.calls == [("NoWorker:mail", False, "critical")]
    tell(store, [], 181_000, sent)
    tell(store, [], 241_000, sent)
    assert sent.calls[1:] == [("NoWorker:mail", True, "critical")]
    assert not store.connector.command(store.keys.alerts, "EXISTS", store.keys.alerts)


def test_what_is_over_within_a_minute_wakes_nobody(store: Store, sent: Sent) -> None:
    tell(store, [WRONG], 1_000, sent)
    tell(store, [], 61_000, sent)
    tell(store, [WRONG], 121_000, sent)
    assert sent.calls == []


def test_a_look_that_failed_in_between_tells_under_the_same_key(store: Store, sent: Sent) -> None:
    tell(store, [WRONG], 1_000, sent)
    noted = store.connector.command(store.keys.alerts, "HGET", store.keys.alerts, "NoWorker:mail")
    tell(store, [WRONG], 61_000, sent)
    store.connector.command(store.keys.alerts, "HSET", store.keys.alerts, "NoWorker:mail", noted)  # it was killed
    tell(store, [WRONG], 121_000, sent)
    assert len(sent.keys) == 2
    assert len(set(sent.keys)) == 1


def test_a_channel_that_is_missing_is_said_and_the_others_are_told(
    store: Store, sent: Sent, caplog: pytest.LogCaptureFixture
) -> None:
    tell(store, [WRONG, SLOW], 1_000, sent)
    sent.error = SettingsError("FOURLANE_X is not set")
    tell(store, [WRONG, SLOW], 61_000, sent)
    assert caplog.text.count("FOURLANE_X is not set") == 2


# Real -----------------------------------------------------------------------------------------------------------


def test_operators_are_told_and_told_when_it_is_over(
    command: Command, store: Store, providers: Providers, database: Database
) -> None:
    command.env["FOURLANE_MAINTENANCE"] = '{"alerts": "0 0 1 1 *"}'
    command.module("lone", "import fourlane\n@fourlane.task(service='lone')\ndef wait(): ...")
    log = command.folder / "log"
    with log.open("wb") as stream:
        command.start("worker", "fourlane.tasks.notifications", "--scheduler", stderr=stream)
    eventually(lambda: "ready:" in log.read_text(), 30)
    assert command("enqueue", "wait", "--module", "lone").returncode == 0
    states = ProviderStates(store)
    states._index.announce("openai|gpt-4o:k")
    states.settle("openai", "gpt-4o:k", verdict="down", second=0, extra_tokens=0, probe=False, failures=1,
                  open_ms=600_000, silence_ms=0)  # fmt: skip

    def alerts() -> None:
        fired = command("schedules", "fire", "alerts", "--json")
        assert fired.returncode == 0, fired.stderr
        job_id = json.loads(fired.stdout)["id"]
        eventually(lambda: "there is no job" in command("jobs", "show", job_id).stderr, 30)  # it is done

    for _ in range(3):
        alerts()
    page = eventually(lambda: providers.pages.get("NoWorker:lone"), 20)
    assert (page["event_action"], page["payload"]["severity"]) == ("trigger", "critical")
    [told] = eventually(lambda: [text for text in providers.chat if "ProviderDown" in text], 20)
    assert "docs/runbooks/provider-down.md" in told

    assert command("queues", "purge", "jobs.normal.lone", "--yes").returncode == 0
    key = store.keys.health("openai", "gpt-4o:k")
    store.connector.command(key, "DEL", key)
    alerts()
    eventually(lambda: providers.pages["NoWorker:lone"]["event_action"] == "resolve", 20)
    eventually(lambda: [text for text in providers.chat if "Resolved" in text], 20)
    assert len([text for text in providers.chat if "ProviderDown" in text]) == 2
    assert "Traceback" not in log.read_text()
