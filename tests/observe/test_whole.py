"""A request to a web app, its job with a retry, and what of it is to be seen: one trace, metrics, lines, a report."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.command import Command
from tests.observe.receivers import Receiver
from tests.servers import eventually, free_port

TASKS = """
import logging, threading
import httpx, sqlite3
import fourlane
from fourlane.tasks.webhooks import deliver

@fourlane.task(service="shop", tier="P0", max_retries=1, backoff=fourlane.Backoff(min_ms=10, max_ms=10))
def order(url, email):
    from fourlane.observe import traces
    httpx.post(url + "/v1/messages")
    sqlite3.connect(":memory:").cursor().execute("SELECT 1")
    traces.annotate(ai_provider="anthropic", ai_cost_usd=0.25)
    thread = threading.Thread(target=lambda: logging.getLogger("shop").warning("from a thread, password=hunter2"))
    thread.start(), thread.join()
    if fourlane.current_job().attempt == 1:
        raise RuntimeError(f"no answer for {email}, key sk-ant-REDACTED-0123456789")
    deliver.send(url + "/hook", {"a": 1})

@fourlane.task(service="shop", max_retries=0)
def broken(email):
    raise ValueError(f"cannot: {email}")

@fourlane.task(service="shop")
def noop():
    pass

@fourlane.task(service="shop")
def lie_still():
    fourlane.current_job().cancel_token.wait(60)
"""

WEB = """
import sys
from wsgiref.util import setup_testing_defaults
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
import fourlane.observe
fourlane.observe.start(service="web", trace_percent=100)
import shop

def app(environ, start_response):
    job = shop.order.send_with_options(args=(sys.argv[1], "ada@example.org"))
    print(job.id)
    start_response("202 Accepted", [])
    return [b""]

environ = {"PATH_INFO": "/orders", "REQUEST_METHOD": "POST"}
setup_testing_defaults(environ)
list(OpenTelemetryMiddleware(app)(environ, lambda *a: None))
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def command(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Command]:
    made = Command(tmp_path, REDIS_URL=redis_url, FOURLANE_NAMESPACE=namespace, PYTHONWARNINGS="ignore")
    made.module("shop", TASKS)
    yield made
    made.close()


def get(port: int, path: str, accept: str = "") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(text: str) -> dict[tuple[str, ...], float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[(sample.name, *sorted(sample.labels.values()))] = sample.value
    return found


def run_python(command: Command, code: str, *args: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=command.folder,
        env=command.env | env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def test_a_request_and_its_job_are_one_trace(command: Command, receiver: Receiver, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    env = {
        "FOURLANE_ENVIRONMENT": "staging",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "FOURLANE_WEBHOOK_ALLOW_PRIVATE": "true",
    }
    command.env |= env | {
        "FOURLANE_METRICS": "true",
        "FOURLANE_PROBE_PORT": str(port),
        "SENTRY_DSN": receiver.url.replace("//", "//key@") + "/1",
        "FOURLANE_SERVICE": "shop",
    }
    with log.open("wb") as stream:
        command.start("worker", "shop", stderr=stream)
    eventually(lambda: log.exists() and "ready:" in log.read_text(), 30)

    job_id = run_python(command, WEB, receiver.url).strip()
    run_python(command, "import shop; shop.broken.send('ada@example.org')")

    def whole() -> list[dict[str, Any]] | None:
        spans = receiver.spans()
        names = [span["name"] for span in spans]
        enough = names.count("process staging.jobs.high.shop") == 2 and "process staging.jobs.normal.webhooks" in names
        return spans if enough and any(s["service"] == "web" for s in spans) else None

    spans = eventually(whole, 30)
    jobs = [s for s in spans if s["attributes"].get("messaging.message.id") == job_id]
    first, second = sorted(jobs, key=lambda s: int(s["attributes"]["fourlane.attempt"]))
    mine = {span["id"]: span for span in spans if span["trace"] == first["trace"]}
    names = {span["name"] for span in mine.values()}
    assert {"send staging.jobs.high.shop", "send staging.jobs.normal.webhooks", "POST"} <= names
    assert any(name.startswith("SELECT") for name in names), names
    [request] = [s for s in mine.values() if s["service"] == "web" and not s["parent"]]
    assert request["kind"] == 2
    assert all(s["parent"] in mine for s in mine.values() if s is not request)
    assert mine[first["parent"]]["name"] == "send staging.jobs.high.shop"
    assert (first["error"], second["error"]) == (True, False)
    assert second["links"] == [first["id"]]
    assert second["attributes"]["ai_cost_usd"] == 0.25
    assert first["attributes"]["status"] == "error"
    assert first["attributes"]["operation"] == "order"
    assert first["events"] == ["exception"]
    assert "ada@example.org" not in str(spans)
    assert "sk-ant-" not in str(spans)

    [event] = eventually(lambda: [e for e in receiver.envelopes() if e["item"] == "event"], 10)
    assert event["fingerprint"] == ["fourlane", "broken", "builtins", "ValueError"]
    assert event["tags"]["task"] == "broken"
    assert "ada@example.org" not in json.dumps(event)

    of_job = [line for line in lines(log) if line["metadata"].get("job") == job_id]
    assert {line["trace_id"] for line in of_job} == {first["trace"]}
    [threads, _] = [line for line in of_job if "from a thread" in line["message"]]
    assert threads["message"] == "from a thread, password=[redacted]"
    assert (threads["level"], threads["service"]) == ("WARN", "shop")
    assert set(threads) == {"timestamp", "level", "service", "trace_id", "user_id", "message", "metadata"}

    def has(outcome: str, task: str, tier: str = "high") -> float:
        key = ("fourlane_jobs_total", *sorted((outcome, task, tier, "shop")))
        return samples(get(port, "/metrics")[1]).get(key, 0)

    eventually(
        lambda: has("done", "order") == 1 and has("retry", "order") == 1 and has("dead", "broken", "normal") == 1
    )
    found = samples(get(port, "/metrics")[1])
    assert found["fourlane_redis_up",] == 1
    assert found["fourlane_dead_letters", *sorted(("staging.jobs.normal.shop", "normal", "shop"))] == 1
    code, text = get(port, "/metrics", "application/openmetrics-text; version=1.0.0")
    assert code == 200
    assert f'trace_id="{first["trace"]}"' in text
    code, text = get(port, "/health")
    assert code == 200
    checks = {"database": "not configured", "cache": "healthy", "ai_providers": "healthy", "worker": "healthy"}
    assert json.loads(text)["checks"] == checks


def test_a_killed_process_leaves_its_counts(command: Command, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    command.env |= {"FOURLANE_METRICS": "true", "FOURLANE_PROBE_PORT": str(port)}
    with log.open("wb") as stream:
        command.start("worker", "shop", stderr=stream)
    eventually(lambda: "ready:" in log.read_text(), 30)
    run_python(command, "import shop; shop.noop.send_many([()] * 500)")
    key = ("fourlane_jobs_total", *sorted(("done", "noop", "normal", "shop")))
    eventually(lambda: samples(get(port, "/metrics")[1]).get(key) == 500, 15)
    pid = json.loads(get(port, "/ready")[1])["processes"][0]["pid"]
    subprocess.run(["kill", "-9", str(pid)], check=True)
    eventually(lambda: samples(get(port, "/metrics")[1]).get(("fourlane_crashes_total",)) == 1, 15)
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
    assert worker.wait(15) == 0
    assert log.read_text().count("traces: ") == 1
    assert "Traceback" not in log.read_text()


def test_sigusr1_says_what_each_slot_does(command: Command, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as stream:
        worker = command.start("worker", "shop", stderr=stream)
    eventually(lambda: "ready:" in log.read_text(), 30)
    run_python(command, "import shop; shop.lie_still.send()")
    eventually(lambda: '"running": 1' in command("queues", "--json").stdout.replace('":1', '": 1'), 20)
    worker.send_signal(signal.SIGUSR1)
    eventually(lambda: "task=lie_still since_seconds=" in log.read_text(), 10)
    assert "cancel_token.wait(60)" in log.read_text()
    assert worker.poll() is None


def test_metrics_without_a_port_are_refused_in_a_line(command: Command) -> None:
    done = command("worker", "shop", FOURLANE_METRICS="true")
    assert done.returncode != 0
    assert "FOURLANE_METRICS: metrics are served on the probe's port; set FOURLANE_PROBE_PORT" in done.stderr
    assert "Traceback" not in done.stderr
