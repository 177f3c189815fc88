"""The benchmark's own machinery, on one tiny case of Fourlane; and how it judges figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import goals, report
from tests.servers import Server

TINY = """
import json, sys
from benchmarks import cases, one
cases.BYTES_JOBS, cases.DRAIN_JOBS, cases.DRAIN_SECONDS = 2_000, 5_000, 20.0
print(json.dumps(one.main("drain", "fourlane", sys.argv[1])))
"""


def test_a_drain_of_fourlane_counts_every_job(redis_server: Server) -> None:
    # In a process of its own, as the benchmark does it: opening a peer sets dramatiq's global broker.
    ran = subprocess.run(
        [sys.executable, "-c", TINY, redis_server.url],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout.splitlines()[-1])
    found = result["figures"]
    assert result["about"]["settings"]
    assert found["jobs"] == 5_000
    assert found["jobs_per_second"] > 0
    assert 200 < found["bytes_per_job"] < 1_000
    assert 0 < found["calls_per_job"] < found["commands_per_job"]


SEEN = """
import json, sys
from benchmarks import observe, one
observe.ROUNDS, observe.JOBS = 1, 500
print(json.dumps(one.main("observe", "fourlane", sys.argv[1])))
"""


def test_the_engine_runs_without_its_hooks_and_with_all_of_them(redis_server: Server) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SEEN, redis_server.url],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])["figures"]
    assert all(found[f"{name}_per_second"] > 0 for name in ("stripped", "off", "on"))
    assert {"off_cost_percent", "on_cost_percent"} <= set(found)


def results(**figures: list[dict[str, Any]]) -> dict[str, Any]:
    """Results of drains, by peer."""
    return {
        "peers": {name: {"settings": ""} for name in figures},
        "missing": {},
        "cases": {"drain": {name: {"runs": runs, "failed": [], "busy": [0.1]} for name, runs in figures.items()}},
    }


def test_a_goal_is_judged_on_medians_and_tells_by_how_much_it_is_missed() -> None:
    # given: a median of 300 against one of 100
    found = results(
        fourlane=[{"jobs_per_second": rate} for rate in (900, 300, 200)],
        bullmq=[{"jobs_per_second": rate} for rate in (100, 90, 110)],
    )
    [goal] = [g for g in goals.GOALS if g.what == "drain, 1 process, to BullMQ"]

    verdict = goal.judge(found)

    assert verdict is not None
    assert verdict.value == 3
    assert not goal.reached(verdict.value)
    assert "| ≥ 4 × | 3.00 × (300 : 100) | **missed by 25%** |" in report.goals_table(found)


def test_a_peer_that_is_better_is_named() -> None:
    found = results(fourlane=[{"jobs_per_second": 50.0}], huey=[{"jobs_per_second": 70.0}])
    assert "drain, 1 process: huey 70; Fourlane 50" in report.not_first(found)
