"""What of AI calls is to be seen: figures on the metrics page, spans, and what operators ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.ai.provider import Fault, Provider
from fourlane.tasks.ai.money.spent import month_now
from tests.command import Command, run_python
from tests.observe.pages import get, samples
from tests.observe.receivers import Receiver
from tests.servers import eventually, free_port

ASK = """
import json, sys
from fourlane.tasks import ai
for given in json.loads(sys.argv[1]):
    print(ai.generate.send("hello", **{"model": "gpt-4o"} | given).id)
"""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def command(redis_url: str, namespace: str, tmp_path: Path, provider: Provider) -> Iterator[Command]:
    config = {
        "base_urls": provider.base_urls,
        "budgets_usd": {"poor": 0.0125, "acme": 5},
        "limits": {"anthropic": {"requests_per_minute": 1}},
    }
    keys = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY"), "sk-test")
    given = keys | {"FOURLANE_AI": json.dumps(config), "PYTHONWARNINGS": "ignore"}
    made = Command(tmp_path, REDIS_URL=redis_url, FOURLANE_NAMESPACE=namespace, **given)
    yield made
    made.close()


def start(command: Command, log: Path) -> None:
    with log.open("wb") as stream:
        command.start("worker", "fourlane.tasks.ai", stderr=stream)
    eventually(lambda: "ready:" in log.read_text(), 30)


def test_figures_and_spans_of_calls(command: Command, provider: Provider, receiver: Receiver, tmp_path: Path) -> None:
    port = free_port()
    command.env |= {"FOURLANE_METRICS": "true", "FOURLANE_PROBE_PORT": str(port), "FOURLANE_TRACE_PERCENT": "100"}
    command.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
    provider.faults += [Fault("refuse")]
    start(command, tmp_path / "log")
    calls = [
        {"tenant": "sad"},  # refused by the provider
        {"tenant": "acme"},
        {"tenant": "poor"},  # may cost over 80 % of its budget
        {"tenant": "poor", "max_tokens": 2_000},  # more than all of it
        {"tenant": "acme", "model": "claude-haiku-4.5"},
        {"tenant": "acme", "model": "claude-haiku-4.5"},  # one too many in this minute
    ]
    zeros = [("ai_budget", "poor", "refused"), ("provider_refused", "anthropic", "claude-haiku-4-5", "limited")]
    for name, *labels in zeros:  # before anybody calls
        key = (f"fourlane_{name}_total", *sorted(labels))
        assert eventually(lambda key=key: str(samples(get(port, "/metrics")[1]).get(key, "")), 20) == "0.0"
    for number, call in enumerate(calls):
        run_python(command, ASK, json.dumps([call]), OTEL_EXPORTER_OTLP_ENDPOINT="")
        eventually(lambda number=number: len(receiver_ends(port)) > number, 20)

    found = samples(get(port, "/metrics")[1])

    def value(name: str, *labels: str) -> float:
        return found.get((f"fourlane_{name}", *sorted(labels)), 0.0)

    assert value("ai_tokens_total", "openai", "gpt-4o", "acme", "in") == 2
    assert value("ai_tokens_total", "openai", "gpt-4o", "acme", "out") == 3
    assert value("ai_cost_usd_total", "openai", "gpt-4o", "acme") == pytest.approx(2 * 2.5e-6 + 3 * 1e-5)
    assert value("ai_cost_usd_total", "anthropic", "claude-haiku-4-5", "acme") > 0
    by_tenant = sum(v for name, v in found.items() if name[0] == "fourlane_ai_cost_usd_total")
    assert value("ai_task_cost_usd_total", "fourlane.ai.generate") == pytest.approx(by_tenant)
    assert value("ai_call_seconds_count", "openai", "gpt-4o", "ok") == 2
    assert value("ai_calls_total", "openai", "gpt-4o", "sad", "blocked") == 1
    assert value("ai_calls_total", "openai", "gpt-4o", "acme", "ok") == 1
    assert value("ai_task_calls_total", "fourlane.ai.generate", "ok") == 3
    assert value("ai_first_seconds_count", "openai", "gpt-4o") == 2
    assert value("ai_call_seconds_count", "openai", "gpt-4o", "blocked") == 1
    assert value("ai_budget_total", "poor", "warned") == 1
    assert value("ai_budget_total", "poor", "refused") == 1
    assert value("provider_calls_total", "openai", "gpt-4o", "ok") == 3
    assert value("provider_refused_total", "anthropic", "claude-haiku-4-5", "limited") == 1

    def spans() -> list[dict[str, Any]]:
        return [span for span in receiver.spans() if span["name"] == "ai generate"]

    told = eventually(lambda: spans() if len(spans()) == 5 else None, 20)  # of a postponed job there are none
    jobs = {span["trace"] for span in receiver.spans() if span["name"].startswith("process ")}
    assert all(span["parent"] and span["trace"] in jobs for span in told)
    [acme] = [s for s in told if s["attributes"].get("organization_id") == "acme" and "gpt-4o" in str(s["attributes"])]
    assert acme["attributes"]["ai_provider"] == "openai"
    assert acme["attributes"]["ai_model"] == "gpt-4o"
    assert acme["attributes"]["ai_cost_usd"] == pytest.approx(2 * 2.5e-6 + 3 * 1e-5)
    assert acme["attributes"]["ai_outcome"] == "ok"
    assert acme["attributes"]["ai_first_ms"] > 0
    assert acme["attributes"]["operation"] == "generate"
    assert acme["attributes"]["status"] == "ok"
    assert "HTTP Request" not in (tmp_path / "log").read_text()
    [sad] = [span for span in told if span["attributes"].get("organization_id") == "sad"]
    assert (sad["error"], "had the content blocked" in sad["attributes"]["error_message"]) == (True, True)


def receiver_ends(port: int) -> list[int]:
    """One entry for each run that has ended."""
    found = samples(get(port, "/metrics")[1])
    return [1] * int(sum(v for k, v in found.items() if k[0] == "fourlane_jobs_total"))


def test_the_time_that_calls_wait_for_room_is_a_figure(command: Command, provider: Provider, tmp_path: Path) -> None:
    port = free_port()
    command.env |= {"FOURLANE_METRICS": "true", "FOURLANE_PROBE_PORT": str(port)}
    provider.faults.append(Fault("status", 429, (("retry-after", "0.5"),)))
    start(command, tmp_path / "log")
    run_python(command, ASK, "[{}]")
    eventually(lambda: receiver_ends(port), 20)
    found = samples(get(port, "/metrics")[1])
    assert found["fourlane_provider_calls_total", *sorted(("openai", "gpt-4o", "limited"))] == 1
    assert found["fourlane_ai_call_seconds_sum", *sorted(("openai", "gpt-4o", "ok"))] >= 0.5


def test_a_fallback_is_asked_at_once_for_a_model_that_ended(
    command: Command, provider: Provider, tmp_path: Path
) -> None:
    config = {"base_urls": provider.base_urls, "fallbacks": {"openai/gpt-4": ["claude-haiku-4.5"]}}
    command.env["FOURLANE_AI"] = json.dumps(config)
    start(command, tmp_path / "log")
    assert "openai/gpt-4 was retired on 2026-10-23; use openai/gpt-6.1-sol" in (tmp_path / "log").read_text()
    run_python(command, ASK, json.dumps([{"model": "openai/gpt-4"}]))
    eventually(lambda: provider.answered, 20)
    assert [request["body"]["model"] for request in provider.requests] == ["claude-haiku-4-5"]


def test_four_processes_do_not_exceed_the_providers_limit(command: Command, provider: Provider, tmp_path: Path) -> None:
    provider.rpm, provider.latency_seconds = 20, 0.05
    command.env["FOURLANE_AI"] = json.dumps(
        {"base_urls": provider.base_urls, "limits": {"openai": {"requests_per_minute": 20}}}
    )
    with (tmp_path / "log").open("wb") as stream:
        command.start("worker", "fourlane.tasks.ai", "--processes", "4", stderr=stream)
    eventually(lambda: "ready:" in (tmp_path / "log").read_text(), 40)
    run_python(command, ASK, json.dumps([{}] * 60))

    def waiting() -> int:
        services = json.loads(command("queues", "--json").stdout)["services"]
        return sum(service["delayed"] for service in services if service["name"] == "ai")

    eventually(lambda: provider.answered == 20 and waiting() == 40, 40)
    assert len(provider.requests) <= 21
    assert provider.limited <= 1


def test_what_operators_ask(command: Command, provider: Provider, tmp_path: Path) -> None:
    nothing = [command("ai", "spending"), command("ai", "providers")]
    assert [done.returncode for done in nothing] == [0, 0]
    assert nothing[0].stdout.startswith("nothing was spent in 20")
    assert nothing[1].stdout == "no provider was called within a day\n"
    provider.faults += [Fault("status", 500)] * 20
    start(command, tmp_path / "log")
    run_python(command, ASK, json.dumps([{}] * 5))  # each is tried four times at most
    state = eventually(lambda: [p for p in told(command, "providers")["providers"] if p["opened"]], 30)
    assert {name: state[0][name] for name in ("provider", "model", "failures", "opened", "requests_per_minute")} == {
        "provider": "openai", "model": "gpt-4o", "failures": 5, "opened": 1, "requests_per_minute": 0,
    }  # fmt: skip
    provider.faults.clear()
    health = {one["name"]: one["health"] for one in told(command, "models")["models"]}
    assert health["gpt-4o"].startswith(("open", "probing"))
    assert health["claude-haiku-4.5"] is None
    run_python(command, ASK, json.dumps([{"tenant": "acme", "model": "claude-haiku-4.5"}, {"model": "gpt-4o"}]))
    spent = eventually(lambda: told(command, "spending")["tenants"].get("acme", {}).get("spent"), 20)
    words = command("ai", "spending").stdout.splitlines()
    assert words[0].split() == ["TENANT", "SPENT", "RESERVED", "BUDGET", "USED"]
    assert next(line for line in words if line.startswith("acme")).split()[3] == "5.0000"
    of_acme = told(command, "spending", "--tenant", "acme")["tenants"]["acme"]
    assert of_acme["model:anthropic/claude-haiku-4-5"] == of_acme["task:fourlane.ai.generate"] == spent
    assert told(command, "spending", "--by", "model")["models"]["anthropic/claude-haiku-4-5"] == {"spent": spent}
    assert command("ai", "spending", "--model", "openai/gpt-9").stdout == f"nothing of it was spent in {month_now()}\n"
    words = command("ai", "providers").stdout.splitlines()
    assert any(line.startswith("anthropic  claude-haiku-4-5") and "1/1" in line.split() for line in words), words


def told(command: Command, *words: str) -> dict[str, Any]:
    done = command("ai", *words, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("words", "env", "message"),
    [
        (["spending", "--month", "2026-13"], {}, "'2026-13' is no month; write it as 2026-11"),
        (["spending", "--day", "2026-11"], {}, "'2026-11' is no day; write it as 2026-11-28"),
        (["spending", "--day", "2026-02-30"], {}, "'2026-02-30' is no day; write it as 2026-11-28"),
        (["estimate", "hi", "--model", "openai/gpt-4"], {}, "openai/gpt-4 was retired on 2026-10-23; use openai/gpt-6"),
        (["estimate", " "], {}, "prompt: text that is not empty"),
        (["spending", "--check"], {}, 'set "log_rows" in FOURLANE_AI'),
        (["estimate", "hi", "--model", "gpt-9"], {}, "'gpt-9' is no model; did you mean gpt-4o"),
        (["estimate"], {}, "give a prompt, or --file"),
        (["providers"], {"FOURLANE_AI": "{"}, "FOURLANE_AI: is not JSON"),
        (["providers"], {"FOURLANE_AI": '{"budgets_usd": {"a": -1}}'}, "budgets_usd.a: Input should be greater than"),
        (
            ["providers"],
            {"FOURLANE_AI": '{"budgets": [{"usd": 1, "task": "t", "model": "p/m"}]}'},
            "a budget is of a task or of a model; write two",
        ),
        (["providers"], {"FOURLANE_AI": '{"prices": {"openai/x": {"inputs": 1}}}'}, "prices.openai/x.inputs"),
        (["providers"], {"REDIS_URL": "redis://127.0.0.1:1"}, "Redis"),
    ],
)
def test_mistakes_in_a_line(command: Command, words: list[str], env: dict[str, str], message: str) -> None:
    done = command("ai", *words, **env)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("prompt", "named", "env", "message"),
    [
        ("hi", {"model": "gpt-9"}, {}, "'gpt-9' is no model"),
        ("hi", {"model": "openai/gpt-4"}, {}, "openai/gpt-4 was retired on 2026-10-23; use openai/gpt-6.1-sol"),
        ("hi", {"model": "sonar"}, {}, "there is no API key for perplexity; set PERPLEXITY_API_KEY"),
        (
            "hi",
            {"tenant": "acme"},
            {"FOURLANE_AI": '{"budgets_usd": {"acme": 0}}'},
            "of tenant acme per month is 0",
        ),
        ("hi", {"model": "openai/text-embedding-3-small"}, {}, "is for embeddings (ai.embed) and answers no prompt"),
    ],
)
def test_what_can_never_succeed_is_refused_by_the_command(
    command: Command, prompt: str, named: dict[str, str], env: dict[str, str], message: str
) -> None:
    module = ("--module", "fourlane.tasks.ai", "--kwargs", json.dumps(named))
    done = command("enqueue", "fourlane.ai.generate", json.dumps(prompt), *module, **env)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_no_key_stands_in_what_is_kept_of_an_error(command: Command, tmp_path: Path) -> None:
    """Of a task of one's own too, that never asked for the settings."""
    key = "no-form-of-any-key-17"
    tasks = command.module(
        "leaking",
        "import os, fourlane\n\n@fourlane.task(service='ai', max_retries=0)\ndef leak():\n"
        "    raise ValueError(f\"header {('Header ' + os.environ['OPENAI_API_KEY']).encode()!r}\")\n",
    )
    command.env["OPENAI_API_KEY"] = f"{key}\n"
    with (tmp_path / "log").open("wb") as stream:
        command.start("worker", tasks, "--log-jobs", stderr=stream)
    eventually(lambda: "ready:" in (tmp_path / "log").read_text(), 30)
    job = run_python(command, f"import {tasks}; print({tasks}.leak.send().id)").strip()
    eventually(lambda: '"dead"' in command("jobs", "show", job, "--json").stdout, 20)
    shown = command("jobs", "show", job).stdout + command("dead", "list", "--json").stdout
    for text in (shown, (tmp_path / "log").read_text()):
        assert "header b'Header [redacted]" in text
        assert key not in text
