"""What alert rules look at is there before anything happens, and never goes back: with the real command."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourlane.observe.figures import CATALOGUE
from tests.command import Command, run_python
from tests.command import command as command
from tests.observe.pages import get, samples
from tests.servers import eventually, free_port

RULES = Path(__file__).parents[2] / "deploy/prometheus-rules.yaml"
TASKS = """
import fourlane
import fourlane.tasks.ai
from fourlane.root import root
from fourlane.db.setup import database
from sqlalchemy import text

@fourlane.task(service="mail", tier="P0", max_retries=0)
def fail():
    raise ValueError

@fourlane.task(service="images")
async def resize():
    pass

@fourlane.task(service="images")
def ask():
    with root().part(database).begin() as session:
        session.execute(text("SELECT 1"))
"""
Samples = dict[tuple[str, ...], float]
Page = Callable[[], Samples]


@pytest.fixture
def page(command: Command, tmp_path: Path) -> Page:
    """The page of a worker of two processes and two services."""
    port, log = free_port(), tmp_path / "log"
    command.env |= {"FOURLANE_METRICS": "true", "FOURLANE_PROBE_PORT": str(port)}
    command.module("shop", TASKS)
    with log.open("wb") as stream:
        command.start("worker", "shop", "--processes", "2", stderr=stream)
    eventually(lambda: "ready:" in log.read_text(), 30)
    command.port = port  # type: ignore[attr-defined]
    return lambda: samples(get(port, "/metrics")[1])


def of(name: str, *labels: str) -> tuple[str, ...]:
    return (name, *sorted(labels))


def test_counters_of_rules_are_there_at_zero(page: Page) -> None:
    found = eventually(lambda: now if of("fourlane_leases_lost_total", "mail") in (now := page()) else None, 10)
    eventually(lambda: any(key[0] == "fourlane_ai_task_cost_usd_total" for key in page()), 10)
    found = page()
    for service in ("mail", "images"):
        assert found[of("fourlane_leases_lost_total", service)] == 0
        assert found[of("fourlane_stale_acks_total", service)] == 0
        assert found[of("fourlane_job_wait_seconds_count", "high", service)] == 0
    for outcome in ("done", "retry", "dead"):
        assert found[of("fourlane_jobs_total", "fail", "high", "mail", outcome)] == 0
        assert found[of("fourlane_jobs_total", "resize", "normal", "images", outcome)] == 0
    assert found[of("fourlane_ai_task_cost_usd_total", "resize")] == 0
    counters = set(re.findall(r"(?:rate|increase)\((fourlane_\w+?)(?:_total|_bucket)", RULES.read_text()))
    assert {name for name in counters if not any(key[0].startswith(name) for key in found)} == set()
    assert found[of("fourlane_redis_lookups_total", "hit")] > 0
    assert of("fourlane_redis_lookups_total", "miss") in found
    assert found["fourlane_redis_connections",] > 0


def test_counters_never_go_back_when_processes_do(page: Page, command: Command) -> None:
    run_python(command, "import shop; shop.fail.send_many([()] * 30); shop.resize.send_many([()] * 30)")
    dead, done = (
        of("fourlane_jobs_total", "fail", "high", "mail", "dead"),
        of("fourlane_jobs_total", "resize", "normal", "images", "done"),
    )
    seen: Samples = {}

    def look() -> Samples:
        now = page()
        for key, value in now.items():
            if key[0].endswith(("_total", "_count", "_bucket")) and "redis" not in key[0]:
                assert value >= seen.get(key, 0.0), key
        assert set(counted(seen)) <= set(now)
        seen.update(now)
        return now

    eventually(lambda: (look()[dead], look()[done]) == (30, 30), 20)
    for process in processes(command):
        subprocess.run(["kill", "-9", str(process["pid"])], check=True)
    eventually(lambda: look()["fourlane_crashes_total",] == 2, 20)
    eventually(lambda: len([one for one in processes(command) if one["pid"]]) == 2, 20)
    run_python(command, "import shop; shop.fail.send_many([()] * 5)")
    eventually(lambda: look()[dead] == 35, 20)
    assert look()[done] == 30


def processes(command: Command) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(get(command.port, "/ready")[1])["processes"]  # type: ignore[attr-defined]
    return found


def counted(found: Samples) -> list[tuple[str, ...]]:
    return [key for key in found if key[0].removesuffix("_total").removeprefix("fourlane_") in CATALOGUE]


def test_the_database_is_timed_and_its_connections_end_with_their_process(page: Page, command: Command) -> None:
    run_python(command, "import shop; shop.ask.send_many([()] * 20)")
    statements = of("fourlane_database_query_seconds_count", "select")
    found = eventually(lambda: now if (now := page()).get(statements, 0) >= 20 else None, 20)
    eventually(lambda: page().get(of("fourlane_database_connections", "in_use")) == 0, 10)
    assert 1 <= page()[of("fourlane_database_connections", "idle")] <= 10
    for process in processes(command):
        subprocess.run(["kill", "-9", str(process["pid"])], check=True)
    eventually(lambda: page()["fourlane_crashes_total",] == 2, 20)
    assert page()[statements] >= found[statements]
    assert page().get(of("fourlane_database_connections", "idle"), 0) == 0
