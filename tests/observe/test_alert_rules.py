"""The alert rules by promtool: each fires where it should, after its time and no sooner, and stays quiet where not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from fourlane.cli import main

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus-rules.yaml"
ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text())

Q = '{queue="local.jobs.normal.shop",tier="normal",service="shop"}'
P3 = '{queue="local.jobs.scheduled.shop",tier="scheduled",service="shop"}'
JOBS = '{task="t",tier="normal",service="shop",outcome="%s"}'


class Case(NamedTuple):
    """Series that fire an alert (``bad``) and that do not (``well``), a sample a minute, in promtool's notation.

    ``at``: the minute by which it fires. ``early``: one in which it does not yet; None: it has no time to wait.
    """

    bad: dict[str, str]
    well: list[dict[str, str]]
    at: int
    early: int | None


def waits(tier: str, bucket: str) -> str:
    return f'fourlane_job_wait_seconds_bucket{{tier="{tier}",service="shop",le="{bucket}"}}'


CASES = {
    "HighErrorRate": Case(
        {f"fourlane_jobs_total{JOBS % 'done'}": "0+90x30", f"fourlane_jobs_total{JOBS % 'retry'}": "0+10x30"},
        [
            {f"fourlane_jobs_total{JOBS % 'done'}": "0+97x30", f"fourlane_jobs_total{JOBS % 'dead'}": "0+3x30"},
            # what an operator or a limit put off is no failure
            {f"fourlane_jobs_total{JOBS % 'done'}": "0+50x30", f"fourlane_jobs_total{JOBS % 'postponed'}": "0+50x30"},
            {f"fourlane_jobs_total{JOBS % 'done'}": "0+0x30"},
        ],
        10,
        4,
    ),
    "SlowResponseTime": Case(
        {waits("high", "1.0"): "0+50x30", waits("high", "5.0"): "0+100x30", waits("high", "+Inf"): "0+100x30"},
        [
            {waits("high", "1.0"): "0+99x30", waits("high", "5.0"): "0+100x30", waits("high", "+Inf"): "0+100x30"},
            {waits("low", "1.0"): "0+5x30", waits("low", "5.0"): "0+100x30", waits("low", "+Inf"): "0+100x30"},
        ],
        15,
        9,
    ),
    "HighAICost": Case(
        {
            'fourlane_ai_task_cost_usd_total{task="a"}': "0+1x90",
            'fourlane_ai_task_cost_usd_total{task="b"}': "0+1x90",
        },
        [{'fourlane_ai_task_cost_usd_total{task="a"}': "0+1x90"}],
        80,
        45,
    ),
    "TierPastTarget": Case(
        {
            f"fourlane_queue_oldest_seconds{Q}": "9x20",
            f"fourlane_queue_target_seconds{Q}": "5x20",
            f"fourlane_queue_paused{Q}": "0x20",
        },
        [
            {
                f"fourlane_queue_oldest_seconds{Q}": "4x20",
                f"fourlane_queue_target_seconds{Q}": "5x20",
                f"fourlane_queue_paused{Q}": "0x20",
            },
            {
                f"fourlane_queue_oldest_seconds{Q}": "9x20",
                f"fourlane_queue_target_seconds{Q}": "5x20",
                f"fourlane_queue_paused{Q}": "1x20",
            },
        ],
        6,
        4,
    ),
    "DeadLettersRising": Case(
        {f"fourlane_dead_letters{Q}": "0+1x60"},
        [{f"fourlane_dead_letters{Q}": "5000x60"}, {f"fourlane_dead_letters{Q}": "900-10x60"}],
        45,
        5,
    ),
    "NoWorker": Case(
        {f"fourlane_queue_depth{Q}": "3x20", 'fourlane_workers{service="shop"}': "0x20"},
        [
            {f"fourlane_queue_depth{Q}": "0x20", 'fourlane_workers{service="shop"}': "0x20"},
            {
                f"fourlane_queue_depth{Q}": "3x20",
                'fourlane_workers{service="shop"}': "1x20",
                'fourlane_workers{service="other"}': "0x20",
            },
        ],
        4,
        1,
    ),
    "NoWorkerHost": Case({"up": "1x20"}, [{'fourlane_slots{process="0"}': "8x20"}], 4, 1),
    "WorkerCrashes": Case({"fourlane_crashes_total": "0+1x30"}, [{"fourlane_crashes_total": "7x30"}], 12, None),
    "LeasesLost": Case(
        {'fourlane_leases_lost_total{service="shop"}': "0+1x30"},
        [{'fourlane_leases_lost_total{service="shop"}': "4x30"}],
        15,
        3,
    ),
    "ScheduledTierLate": Case(
        {f"fourlane_queue_oldest_seconds{P3}": "400x20", f"fourlane_queue_paused{P3}": "0x20"},
        [
            {f"fourlane_queue_oldest_seconds{P3}": "200x20", f"fourlane_queue_paused{P3}": "0x20"},
            {f"fourlane_queue_oldest_seconds{P3}": "400x20", f"fourlane_queue_paused{P3}": "1x20"},
        ],
        6,
        4,
    ),
    "RedisDown": Case({"fourlane_redis_up": "0x20"}, [{"fourlane_redis_up": "1x20"}], 2, 0),
    "RedisMemory": Case(
        {"fourlane_redis_memory_bytes": "90x20", "fourlane_redis_memory_limit_bytes": "100x20"},
        [
            {"fourlane_redis_memory_bytes": "70x20", "fourlane_redis_memory_limit_bytes": "100x20"},
            {"fourlane_redis_memory_bytes": "90x20", "fourlane_redis_memory_limit_bytes": "0x20"},  # it has none
        ],
        12,
        8,
    ),
    "ScheduleLate": Case(
        {
            'fourlane_schedule_overdue_seconds{schedule="s",service="shop"}': "90x20",
            'fourlane_schedule_allowed_seconds{schedule="s",service="shop"}': "60x20",
        },
        [
            {
                'fourlane_schedule_overdue_seconds{schedule="s",service="shop"}': "30x20",
                'fourlane_schedule_allowed_seconds{schedule="s",service="shop"}': "60x20",
            },
        ],
        4,
        1,
    ),
    "OutboxLag": Case({"fourlane_outbox_oldest_seconds": "90x20"}, [{"fourlane_outbox_oldest_seconds": "30x20"}], 4, 1),
    "OutboxFailing": Case({"fourlane_outbox_newly_failed": "11x20"}, [{"fourlane_outbox_newly_failed": "10x20"}], 4, 1),
    "StreamLag": Case(
        {'fourlane_stream_waiting{stream="s"}': "2000x20"}, [{'fourlane_stream_waiting{stream="s"}': "900x20"}], 12, 8
    ),
    "BeyondUnreachable": Case(
        {'fourlane_beyond_unreachable{what="db"}': "1x20"}, [{'fourlane_beyond_unreachable{what="db"}': "0x20"}], 6, 3
    ),
    "BudgetNearlySpent": Case(
        {'fourlane_ai_budget_used_ratio{budget="a"}': "0.8x20"},
        [
            {'fourlane_ai_budget_used_ratio{budget="a"}': "0.79x20"},
            {'fourlane_ai_budget_used_ratio{budget="a"}': "1x20"},
        ],
        3,
        0,
    ),
    "BudgetSpent": Case(
        {
            'fourlane_ai_budget_used_ratio{budget="a"}': "0.971x20",
            'fourlane_ai_budget_refusing{budget="a"}': "1x20",
        },
        [
            {
                'fourlane_ai_budget_used_ratio{budget="a"}': "0.99x20",
                'fourlane_ai_budget_refusing{budget="a"}': "0x20",
            },
        ],
        3,
        0,
    ),
    "DataLost": Case({"fourlane_data_lost": "1x20"}, [{"fourlane_data_lost": "0x20"}], 1, None),
    "JobOverrun": Case({"fourlane_job_overrun_seconds": "12x20"}, [{"fourlane_job_overrun_seconds": "0x20"}], 2, 0),
    "WorkersLost": Case({"fourlane_workers_lost": "1x20"}, [{"fourlane_workers_lost": "0x20"}], 2, 0),
    "ProviderDown": Case(
        {'fourlane_provider_down{provider="p",model="m"}': "1x20"},
        [{'fourlane_provider_down{provider="p",model="m"}': "0x20"}],
        4,
        1,
    ),
}


# A counter that was 0 and rises once, and by which minute the alert fires.
FIRST = {
    "HighErrorRate": (
        {f"fourlane_jobs_total{JOBS % 'dead'}": "0x5 0+1x30", f"fourlane_jobs_total{JOBS % 'done'}": "0x35"},
        13,
    ),
    "SlowResponseTime": (
        {waits("high", "1.0"): "0x40", waits("high", "5.0"): "0x5 0+1x30", waits("high", "+Inf"): "0x5 0+1x30"},
        20,
    ),
    "HighAICost": ({'fourlane_ai_task_cost_usd_total{task="a"}': "0x5 120x60"}, 12),
    "WorkerCrashes": ({"fourlane_crashes_total": "0x5 3x30"}, 7),
    "LeasesLost": ({'fourlane_leases_lost_total{service="shop"}': "0x5 1x30"}, 12),
}


@pytest.mark.parametrize("alert", FIRST)
def test_a_rule_of_a_counter_fires_at_its_first_event(alert: str, tmp_path: Path) -> None:
    series, minute = FIRST[alert]
    assert fires(tmp_path, alert, series, minute)


def test_rules_of_counters_are_all_tried_at_their_first_event() -> None:
    of_counters = re.findall(r"alert: (\w+)\n\s+expr: >-\n\s+.*\b(?:rate|increase)\(", RULES.read_text())
    assert of_counters == list(FIRST)


def test_every_rule_has_its_case() -> None:
    assert set(ALERTS) == set(CASES)


@pytest.mark.parametrize("alert", CASES)
def test_a_rule_fires_where_it_should(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]
    assert fires(tmp_path, alert, case.bad, case.at)
    if case.early is not None:
        assert not fires(tmp_path, alert, case.bad, case.early)
    for well in case.well:
        assert not fires(tmp_path, alert, well, case.at)


@pytest.mark.parametrize("alert", ALERTS)
def test_its_page_has_the_rule_and_commands_that_exist(alert: str) -> None:
    rule = re.search(
        rf"- alert: {alert}\n\s+expr: >-\n\s+(.+)\n.*\n\s+labels: {{ severity: (\w+) }}\n(?:.*\n)*?\s+runbook: (\S+)",
        RULES.read_text(),
    )
    assert rule is not None
    expression, severity, page = rule.groups()
    text = (ROOT / page).read_text()
    title, _, _ = text.partition("\n")
    assert alert in title
    assert f"({severity})" in title
    commands = re.findall(r"`fourlane ([^`]+)`", text)
    assert commands
    for words in commands:
        at: Any = main
        for word in words.split():
            if not isinstance(at, click.Group):
                break
            found = at.get_command(click.Context(at), word)
            assert found is not None, f"{page}: fourlane {words}"
            at = found
        options = {name for param in at.params for name in param.opts}
        assert set(re.findall(r"--[a-z-]+", words)) <= options | {"--help"}, f"{page}: fourlane {words}"
    if alert != "NoWorkerHost":  # it shares the page of NoWorker
        assert expression in text


def fires(folder: Path, alert: str, series: dict[str, str], minute: int) -> bool:
    """Whether it fires then: promtool is told to expect that it does not."""
    test: dict[str, Any] = {
        "rule_files": [str(RULES)],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": [{"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": []}],
            }
        ],
    }
    file = folder / "test.yaml"
    file.write_text(json.dumps(test))  # which is YAML too
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("no promtool on this machine (Debian: prometheus)")
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode == 0:
        return False
    assert f"alertname: {alert}" in said, said  # it fired; anything else is a mistake in the test
    assert "got:" in said, said
    return True
