"""The health pages and the figures of a look: what is well, what is down, and what does not answer at all."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fourlane import app
from fourlane.config import Settings, load_settings
from fourlane.db import migrate
from fourlane.db.models import JobOutbox
from fourlane.observe.meter import Meter
from fourlane.observe.metrics import Host
from fourlane.queues.guards import Bound, Budgets, PaidCall, ProviderStates
from fourlane.queues.status import Beyond, Lag, Spending
from fourlane.queues.store import Store
from fourlane.root import Root
from fourlane.tasks.ai.config import _KEY_NAMES
from fourlane.tasks.upkeep.beyond import Outside
from fourlane.worker.process.pages import AI_PROVIDERS, pages
from tests.conftest import StartServer
from tests.queues.conftest import Hand
from tests.queues.conftest import hand as hand
from tests.queues.conftest import store as store
from tests.servers import eventually


def ask(
    store: Store, path: str, outside: Callable[[], Outside] | None = None, live: bool = True
) -> tuple[int, dict[str, Any]]:
    host = SimpleNamespace(store=store, outside=outside, metrics=None, health=lambda: SimpleNamespace(live=live))
    page = pages(host)[path]("")  # type: ignore[arg-type]
    return page.code, json.loads(page.body)


def settle(store: Store, provider: str, verdict: str) -> None:
    states = ProviderStates(store)
    states._index.announce(f"{provider}|m:k")
    states.settle(provider, "m:k", caller=1, verdict=verdict, second=0, extra_tokens=0, claim=0, failures=1,
                  open_ms=60_000, probe_ms=60_000, silence_ms=0)  # fmt: skip


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_the_format_is_the_platforms(store: Store) -> None:
    code, content = ask(store, "/health")
    assert (code, set(content)) == (200, {"status", "timestamp", "checks", "uptime"})
    assert content["status"] == "healthy"
    assert content["uptime"] == 100.0
    assert set(content["checks"]) == {"database", "cache", "ai_providers", "worker"}


def test_providers_of_ai_are_those_of_its_tasks() -> None:
    assert set(_KEY_NAMES) == AI_PROVIDERS


def test_ai_is_what_workers_found(store: Store) -> None:
    assert ask(store, "/health/ai")[1]["checks"] == {"ai_providers": "healthy"}
    settle(store, "twilio", "down")  # is none of AI
    settle(store, "openai", "ok")
    assert ask(store, "/health/ai")[0] == 200
    settle(store, "anthropic", "down")
    code, content = ask(store, "/health/ai")
    assert (code, content["status"], content["checks"]) == (200, "degraded", {"ai_providers": "degraded"})
    settle(store, "openai", "down")
    assert ask(store, "/health/ai")[0] == 503
    code, content = ask(store, "/health")  # the host itself is well: its jobs wait
    assert (code, content["status"], content["checks"]["ai_providers"]) == (200, "degraded", "unhealthy")


def test_a_worker_that_hangs_is_not_healthy(store: Store) -> None:
    code, content = ask(store, "/health", live=False)
    assert (code, content["status"], content["checks"]["worker"]) == (503, "unhealthy", "unhealthy")
    assert content["uptime"] == 75.0


def test_the_database(store: Store, database_url: str) -> None:
    assert ask(store, "/health/db")[1]["checks"] == {"database": "not configured"}
    opened = Root(load_settings(database_url=database_url))
    assert ask(store, "/health/db", lambda: Outside(opened))[1]["checks"] == {"database": "healthy"}
    opened.close()


def test_a_database_that_refuses_or_is_silent_holds_nobody_up(store: Store, silent_port: int) -> None:
    refusing = Outside(Root(load_settings(database_url="postgresql://u:p@127.0.0.1:1/db")))
    assert ask(store, "/health/db", lambda: refusing)[0] == 503
    silent = Outside(Root(load_settings(database_url=f"postgresql://u:p@127.0.0.1:{silent_port}/db")))
    began = time.monotonic()
    assert ask(store, "/health/db", lambda: silent)[0] == 503
    assert time.monotonic() - began < 4


def test_an_answer_is_good_for_some_seconds(store: Store) -> None:
    host = SimpleNamespace(store=store, outside=None, metrics=None, health=lambda: SimpleNamespace(live=True))
    page = pages(host)["/health/ai"]  # type: ignore[arg-type]
    assert page("").code == 200
    settle(store, "openai", "down")
    assert page("").code == 200  # of before


def test_a_redis_that_is_gone(start_server: StartServer) -> None:
    from fourlane.queues.redis import Connector, client_of

    server = start_server()
    lost = Store(Connector(client_of(server.url)), namespace="x", environment="local")
    assert ask(lost, "/health/cache")[0] == 200
    server.stop()
    code, content = ask(lost, "/health/cache")
    assert (code, content["checks"]) == (503, {"cache": "unhealthy"})
    lost.connector.close()


# What lies beyond ---------------------------------------------------------------------------------------------


def settings_of(url: str, **given: Any) -> Settings:
    return load_settings(database_url=url, **given)


def test_outbox_and_budgets_are_looked_at(
    store: Store, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"budgets_usd": {"acme": 10.0}}
    monkeypatch.setenv("FOURLANE_AI", json.dumps(given))
    monkeypatch.setenv("FOURLANE_DATA_DIR", str(tmp_path))
    from fourlane.tasks.ai import config

    monkeypatch.setattr(config, "_config", None)
    opened = Root(settings_of(database_url))
    outside = Outside(opened)
    assert outside.look(store) == Beyond()  # no such table yet
    database = app.open_database(settings_of(database_url))
    migrate.migrate(database)
    with database.begin() as session:
        session.add(JobOutbox(task="send"))
    call = PaidCall("c1", "acme", time.strftime("%Y-%m-%d", time.gmtime()), "t", "p/m")
    Budgets(store).reserve(call, 9_000_000_000, [Bound(0, "", 10_000_000_000, 8_000_000_000)])
    found = outside.look(store)
    [lag] = found.lags
    assert (lag.kind, lag.waiting) == ("outbox", 1)
    assert lag.oldest_ms is not None
    assert 0 <= lag.oldest_ms < 60_000
    assert found.spending == [Spending("tenant acme per month", 9.0, 10.0)]
    database.close()
    opened.close()


# Figures --------------------------------------------------------------------------------------------------------


def samples(host: Host) -> dict[tuple[str, ...], float]:
    found = {}
    for family in text_string_to_metric_families(host.page()[1].decode()):
        for sample in family.samples:
            found[(sample.name, *sorted(sample.labels.values()))] = sample.value
    return found


def test_figures_of_a_look(store: Store, hand: Hand) -> None:
    hand.enqueue(3)
    settle(store, "openai", "down")
    beyond = Beyond(
        [Lag("outbox", "outbox", 7, 2_500, 12), Lag("stream", "s", 9)],
        [Spending(f"t{n}", 200.0 - n, 100.0) for n in range(150)],
        {"the database": "gone"},
    )
    host = Host(store, list, lambda: beyond)
    try:
        eventually(lambda: ("fourlane_outbox_waiting",) in samples(host))
        found = samples(host)
    finally:
        host.close()
    assert found["fourlane_outbox_waiting",] == 7
    assert found["fourlane_outbox_oldest_seconds",] == 2.5
    assert found["fourlane_outbox_newly_failed",] == 12
    assert found["fourlane_stream_waiting", "s"] == 9
    assert found["fourlane_provider_down", "m", "openai"] == 1
    assert found["fourlane_beyond_unreachable", "the database"] == 1
    assert found["fourlane_redis_commands_total",] > 0
    assert found["fourlane_redis_bytes_total", "from"] > 0
    assert found["fourlane_ai_budget_used_ratio", "t0"] == 2.0
    assert len([key for key in found if key[0] == "fourlane_ai_budget_used_ratio"]) == 100


def test_a_scrape_does_not_wait_for_what_lies_beyond(store: Store) -> None:
    held = threading.Event()

    def slow() -> Beyond:
        held.wait(20)
        return Beyond()

    host = Host(store, list, slow)
    try:
        began = time.monotonic()
        host.page()
        host.page()
        assert time.monotonic() - began < 10
        assert [t.name for t in threading.enumerate()].count("fourlane-beyond") == 1
    finally:
        held.set()
        host.close()


def test_counters_never_go_down_while_processes_come_and_go(store: Store) -> None:
    host = Host(store, list)
    stop = threading.Event()

    def processes() -> None:
        for number in range(40):
            meter = Meter()
            for _ in range(5):
                meter.counted("turns", ("mail",))
                data = meter.take()
                assert data is not None
                new = Path(host.folder) / f"p{number}.new"
                new.write_bytes(data)
                new.replace(new.with_suffix(".json"))
            host.process_ended(f"p{number}")  # killed: its last figures are those of its file
        stop.set()

    thread = threading.Thread(target=processes)
    seen = [0.0]
    try:
        thread.start()
        while not stop.is_set():
            seen.append(host.figures().counts.get("turns", {}).get("mail", 0))
        thread.join()
        assert seen == sorted(seen)
        assert host.figures().counts["turns"]["mail"] == 200
        assert list(Path(host.folder).iterdir()) == []
    finally:
        host.close()


def test_fractions_never_go_down_when_a_process_ends(store: Store) -> None:
    host = Host(store, list)
    labels = ("openai", "gpt-4o", "acme")
    try:
        for number, usd in enumerate((0.1, 0.1, 0.4)):
            meter = Meter()
            meter.counted("ai_cost_usd", labels, usd)
            Path(host.folder, f"p{number}.json").write_bytes(meter.take() or b"")
        before = host.figures().counts["ai_cost_usd"]["\n".join(labels)]
        host.process_ended("p2")  # 0.4 + 0.1 + 0.1 is a hair less than 0.1 + 0.1 + 0.4
        assert host.figures().counts["ai_cost_usd"]["\n".join(labels)] >= before
    finally:
        host.close()
