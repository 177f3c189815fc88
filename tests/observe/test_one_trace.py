"""A request to a web app and its job, which calls an AI provider, a database and a webhook and fails once: one trace.

Read back from where an operator looks: an OTLP receiver, the scraped metrics, the log, Sentry's envelopes.
With RECORD_TRACE=FILE it leaves the trace there, as docs/trace.json was made.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.ai.provider import Provider
from tests.command import Command, run_python
from tests.observe.pages import get, samples
from tests.observe.receivers import Receiver
from tests.servers import eventually, free_port

Span = dict[str, Any]

TASKS = """
import asyncio, logging, os, threading
from sqlalchemy import text
import fourlane
from fourlane import step
from fourlane.db.engine import open_database
from fourlane.tasks import ai
from fourlane.tasks.webhooks.delivery import deliver

log = logging.getLogger("shop")
database = open_database(os.environ["DATABASE_URL"])

def look_up():
    log.warning("from a pool's thread, password=hunter2")
    with database.session() as session:
        return session.execute(text("SELECT 40 + 2")).scalar()

@fourlane.task(service="shop", tier="P0", max_retries=1, backoff=fourlane.Backoff(min_ms=10, max_ms=10))
async def order(url, email):
    await ai.call("generate", "a name for a shop")
    await step.run("look up", asyncio.to_thread, look_up)
    thread = threading.Thread(target=log.warning, args=["from a thread"])
    thread.start(), thread.join()
    await asyncio.create_task(tell())
    if fourlane.current_job().attempt == 1:
        raise RuntimeError(f"no answer for {email}, key sk-ant-REDACTED-0123456789")
    await deliver.asend(url + "/hook", {"a": 1})

async def tell():
    log.warning("from a coroutine")

@fourlane.task(service="shop", max_retries=0)
def broken(email):
    raise ValueError(f"cannot: {email}")
"""

WEB = """
import sys
from wsgiref.simple_server import make_server
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
import fourlane.observe
fourlane.observe.start(service="web", trace_percent=100)
import shop

def app(environ, start_response):
    job = shop.order.send_with_options(args=(sys.argv[2], "ada@example.org"), tenant="org_7")
    start_response("202 Accepted", [("Content-Type", "text/plain")])
    return [job.id.encode()]

make_server("127.0.0.1", int(sys.argv[1]), OpenTelemetryMiddleware(app)).serve_forever()
"""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture
def command(
    tmp_path: Path, redis_url: str, namespace: str, database_url: str, receiver: Receiver, provider: Provider
) -> Iterator[Command]:
    made = Command(
        tmp_path,
        REDIS_URL=redis_url,
        DATABASE_URL=database_url,
        FOURLANE_NAMESPACE=namespace,
        FOURLANE_ENVIRONMENT="staging",
        FOURLANE_WEBHOOK_ALLOW_PRIVATE="true",
        FOURLANE_AI=json.dumps({"base_urls": provider.base_urls}),
        OPENAI_API_KEY="sk-test",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        PYTHONWARNINGS="ignore",
    )
    made.module("shop", TASKS)
    yield made
    made.close()


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def under(spans: list[Span], root: Span) -> list[Span]:
    """A span's descendants."""
    found = [span for span in spans if span["parent"] == root["id"]]
    return found + [inner for span in found for inner in under(spans, span)]


def test_a_request_and_its_job_are_one_trace(
    command: Command, receiver: Receiver, tmp_path: Path, database_url: str
) -> None:
    port, web_port, log = free_port(), free_port(), tmp_path / "log"
    with log.open("wb") as stream:
        command.env |= {
            "FOURLANE_METRICS": "true",
            "FOURLANE_PROBE_PORT": str(port),
            "FOURLANE_SERVICE": "shop",
            "SENTRY_DSN": receiver.url.replace("//", "//key@") + "/1",
        }
        command.start("worker", "shop", stderr=stream)
        (tmp_path / "web.py").write_text(WEB)
        web = [sys.executable, "web.py", str(web_port), receiver.url]
        command.start_other(web, stderr=stream)
    eventually(lambda: "ready:" in log.read_text(), 30)

    job_id = eventually(lambda: asked(web_port), 30)
    run_python(command, "import shop; shop.broken.send('ada@example.org')", OTEL_EXPORTER_OTLP_ENDPOINT="")

    def whole() -> list[Span] | None:
        spans = receiver.spans()
        names = [span["name"] for span in spans]
        enough = names.count("process staging.jobs.high.shop") == 2 and "process staging.jobs.normal.webhooks" in names
        return spans if enough and any(s["service"] == "web" and not s["parent"] for s in spans) else None

    spans = eventually(whole, 30)
    attempts = [s for s in spans if s["attributes"].get("messaging.message.id") == job_id]
    first, second = sorted(attempts, key=lambda s: int(s["attributes"]["fourlane.attempt"]))
    mine = [span for span in spans if span["trace"] == first["trace"]]

    if "RECORD_TRACE" in os.environ:
        Path(os.environ["RECORD_TRACE"]).write_text(receiver.trace_as_json(first["trace"]))

    # One tree: request, send, both attempts, and the webhook's job.
    [request] = [span for span in mine if not span["parent"]]
    assert (request["service"], request["kind"]) == ("web", 2)
    assert {span["id"] for span in under(mine, request)} | {request["id"]} == {span["id"] for span in mine}
    [sent] = [span for span in mine if span["name"] == "send staging.jobs.high.shop"]
    assert (sent["parent"], first["parent"], second["parent"]) == (request["id"], sent["id"], sent["id"])
    assert second["links"] == [first["id"]]
    assert (first["error"], second["error"]) == (True, False)
    assert first["events"] == ["exception"]
    assert first["attributes"]["operation"] == "order"
    assert first["attributes"]["status"] == "error"
    assert first["attributes"]["organization_id"] == "org_7"

    # The first attempt did its work in steps, and the second has their results.
    inside = under(mine, first)
    steps = {span["name"]: span for span in inside if span["name"].startswith("step ")}
    assert set(steps) == {"step ai:generate", "step look up"}
    [asked_ai] = [span for span in under(mine, steps["step ai:generate"]) if span["name"] == "ai generate"]
    known = asked_ai["attributes"]
    assert known["ai_provider"] == "openai"
    assert known["ai_model"]
    assert float(known["ai_cost_usd"]) > 0
    assert any(s["kind"] == 3 and s["name"] == "POST" for s in under(mine, asked_ai))
    system = "postgresql" if database_url.startswith("postgresql") else "sqlite"
    sql = [s for s in under(mine, steps["step look up"]) if s["attributes"].get("db.system") == system]
    assert any("SELECT 40 + 2" in s["attributes"]["db.statement"] for s in sql), [s["name"] for s in inside]
    again = {s["name"]: s["attributes"].get("fourlane.recorded") for s in under(mine, second)}
    assert again["step look up"] is True
    assert "POST" not in [s["name"] for s in under(mine, second) if s["parent"] == second["id"]]

    # The webhook is a job of the same trace, and its call a span in it.
    [hook] = [span for span in mine if span["name"] == "process staging.jobs.normal.webhooks"]
    assert hook["id"] in {span["id"] for span in under(mine, second)}
    assert any(span["kind"] == 3 for span in under(mine, hook)), under(mine, hook)
    assert "/hook" in [path for path, _, _ in receiver.requests]
    assert "ada@example.org" not in str(spans)
    assert "sk-ant-" not in str(spans)

    # Every line of the job says whose it is, from wherever the job writes.
    of_job = [line for line in lines(log) if line["metadata"].get("job") == job_id]
    said = [line["message"] for line in of_job]
    for words in ("from a pool's thread, password=[redacted]", "from a thread", "from a coroutine"):
        assert words in said, said
    assert {line["trace_id"] for line in of_job} == {first["trace"]}
    assert {line["metadata"]["organization_id"] for line in of_job} == {"org_7"}

    # Sentry got the one job that died, and the metrics count all three ends, with the trace at hand.
    [event] = eventually(lambda: [e for e in receiver.envelopes() if e["item"] == "event"])
    assert event["fingerprint"] == ["fourlane", "broken", "builtins", "ValueError"]
    assert "ada@example.org" not in json.dumps(event)

    def ended(outcome: str, task: str, tier: str = "high") -> float:
        key = ("fourlane_jobs_total", *sorted((outcome, task, tier, "shop")))
        return samples(get(port, "/metrics")[1]).get(key, 0)

    eventually(lambda: ended("done", "order") == ended("retry", "order") == ended("dead", "broken", "normal") == 1)
    code, text = get(port, "/metrics", "application/openmetrics-text; version=1.0.0")
    assert code == 200
    assert f'trace_id="{first["trace"]}"' in text
    found = samples(get(port, "/metrics")[1])
    assert found["fourlane_redis_up",] == 1
    assert found["fourlane_dead_letters", *sorted(("staging.jobs.normal.shop", "normal", "shop"))] == 1


def asked(port: int) -> str | None:
    """The id of the job that the web app made; None while it does not listen yet."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/orders", data=b"{}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.URLError:
        return None
