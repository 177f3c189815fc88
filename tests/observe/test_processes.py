"""Figures that outlive their process, a collector in trouble, what runs now: with the real command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Command, run_python
from tests.observe.pages import get, samples
from tests.observe.receivers import Receiver
from tests.servers import eventually, free_port

TASKS = """
import fourlane

@fourlane.task(service="shop")
def noop():
    pass
"""


@pytest.fixture
def command(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Command]:
    made = Command(tmp_path, REDIS_URL=redis_url, FOURLANE_NAMESPACE=namespace, PYTHONWARNINGS="ignore")
    made.module("shop", TASKS)
    yield made
    made.close()


def test_a_killed_process_leaves_its_counts(command: Command, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    command.env |= {"FOURLANE_METRICS": "true", "FOURLANE_PROBE_PORT": str(port)}
    with log.open("wb") as stream:
        command.start("worker", "shop", stderr=stream)
    eventually(lambda: "ready:" in log.read_text(), 30)
    run_python(command, "import shop; shop.noop.send_many([()] * 500)")
    key = ("fourlane_jobs_total", *sorted(("done", "noop", "normal", "shop")))
    eventually(lambda: samples(get(port, "/metrics")[1]).get(key) == 500)
    pid = json.loads(get(port, "/ready")[1])["processes"][0]["pid"]
    subprocess.run(["kill", "-9", str(pid)], check=True)
    eventually(lambda: samples(get(port, "/metrics")[1]).get(("fourlane_crashes_total",)) == 1)
    assert samples(get(port, "/metrics")[1])[key] == 500
    assert (
        samples(get(port, "/metrics")[1])["fourlane_job_run_seconds_count", *sorted(("noop", "normal", "shop"))] == 500
    )


@pytest.mark.parametrize("fault", ["refuses", "answers 503", "is silent"])
def test_a_collector_in_trouble_costs_no_job(command: Command, receiver: Receiver, tmp_path: Path, fault: str) -> None:
    url, log = receiver.url, tmp_path / "log"
    if fault == "refuses":
        url = f"http://127.0.0.1:{free_port()}"
    elif fault == "answers 503":
        receiver.code = 503
    else:
        receiver.hold.clear()
    command.env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "FOURLANE_TRACE_PERCENT": "100"}
    with log.open("wb") as stream:
        worker = command.start("worker", "shop", stderr=stream)
    eventually(lambda: "ready:" in log.read_text(), 30)
    run_python(command, "import shop; shop.noop.send_many([()] * 2000)", OTEL_EXPORTER_OTLP_ENDPOINT="")
    eventually(lambda: '"ready": 0' in command("queues", "--json").stdout.replace('"ready":0', '"ready": 0'), 20)
    eventually(lambda: "traces: " in log.read_text(), 20)
    worker.terminate()
    assert worker.wait(30) == 0
    assert log.read_text().count("traces: ") == 1
    assert "Traceback" not in log.read_text()


def test_metrics_without_a_port_are_refused_in_a_line(command: Command) -> None:
    done = command("worker", "shop", FOURLANE_METRICS="true")
    assert done.returncode != 0
    assert "FOURLANE_METRICS: metrics are served on the probe's port; set FOURLANE_PROBE_PORT" in done.stderr
    assert "Traceback" not in done.stderr
