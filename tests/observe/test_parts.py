"""Redaction, log formats, figures, ids and the files in deploy/, each alone."""

from __future__ import annotations

import importlib
import io
import json
import logging
import re
import shutil
import subprocess
import timeit
from collections.abc import Iterator
from pathlib import Path

import pytest

from fourlane.job import new_id, ready_since_ms
from fourlane.observe import Observe, check, ids, logs
from fourlane.observe.figures import CATALOGUE, Exemplar, Figures, Times
from fourlane.observe.meter import Meter
from fourlane.observe.redact import redact, redact_text
from fourlane.tasks.context import running

ROOT = Path(__file__).parents[2]


# Redaction --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:pw@host:6379/0 is down", "redis://[redacted]@host:6379/0 is down"),
        ("rediss://:pw@host", "rediss://[redacted]@host"),
        ("Authorization: Bearer abcdefgh12345", "Authorization: [redacted]"),
        ("sent with bearer abcdefgh12345", "sent with bearer [redacted]"),
        ("password=hunter2, user=7", "password=[redacted], user=7"),
        ('{"api_key": "abc def", "n": 1}', '{"api_key": [redacted], "n": 1}'),
        ("key sk-ant-api03-abcdefghijkl", "key [redacted]"),
        ("whsec_MfKQ9r8GKYqrTwjU", "[redacted]"),
        ("mail to ada.l+x@example.org.", "mail to [email]."),
        ("card 4242 4242 4242 4242 ok", "card [card] ok"),
        ("order 4242424242424241", "order 4242424242424241"),  # no card: the check digit is wrong
        ("at 1764042000123 ms", "at 1764042000123 ms"),
        ("call +49 151 23456789", "call [phone]"),
        ("IBAN DE89370400440532013000", "IBAN [iban]"),
        ("retry job=1abcDEF task=send attempt=2", "retry job=1abcDEF task=send attempt=2"),
        ("max_tokens=500", "max_tokens=500"),
        ("queue production.jobs.high.image-processing", "queue production.jobs.high.image-processing"),
    ],
)
def test_texts(text: str, shown: str) -> None:
    assert redact_text(text) == shown


def test_by_key_at_any_depth() -> None:
    given = {"user": {"Email": "x", "id": 7}, "cookies": ["a=b"], "list": [{"client_secret": 5}], "ok": True}
    shown = {
        "user": {"Email": "[redacted]", "id": 7},
        "cookies": "[redacted]",
        "list": [{"client_secret": "[redacted]"}],
        "ok": True,
    }
    assert redact(given) == shown


def test_a_long_text_is_cut_and_quick() -> None:
    assert len(redact_text("a" * 1_000_000)) < 40_000
    redact_text("a@" * 20_000 + "password" * 2_000 + "4" * 9_000)  # the timeout of the tests is the judge


# Logs -------------------------------------------------------------------------------------------------------


class FakeRun:
    """As much of a run as a log line asks for."""

    def __init__(self, number: int) -> None:
        self.id = f"job{number}"
        self.attempt = 2
        self.plan = type("Plan", (), {"name": "send"})
        self.envelope = type("Envelope", (), {"options": {"tenant": f"org{number}", "user_id": "u1"}})


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger without pytest's handlers."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    logger.handlers[:] = []
    yield logger
    logger.handlers[:], logger.level = handlers, level
    running.set(None)


def test_json_in_the_platforms_format(root: logging.Logger) -> None:
    root.handlers.clear()  # pytest has added its own again
    stream = io.StringIO()
    logs.configure(level="DEBUG", json=True, service="billing", stream=stream)
    running.set(FakeRun(1))  # type: ignore[arg-type]
    try:
        raise ValueError("token=abc")
    except ValueError:
        logging.getLogger("mine").critical(
            "half " + chr(0xD800) + " of %s", "a@b.org", extra={"n": 1, "o": object}, exc_info=True
        )
    line = json.loads(stream.getvalue())
    assert (line["level"], line["service"], line["user_id"]) == ("FATAL", "billing", "u1")
    assert line["trace_id"] == f"{ids.trace_id_of('job1', {}):032x}"
    assert line["message"] == "half ? of [email]"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])
    metadata = line["metadata"]
    assert (metadata["job"], metadata["task"], metadata["attempt"], metadata["n"]) == ("job1", "send", 2, 1)
    assert metadata["organization_id"] == "org1"
    assert "token=[redacted]" in metadata["exception"]


def test_the_workers_own_lines_keep_their_words_in_a_terminal(root: logging.Logger) -> None:
    root.handlers.clear()  # pytest has added its own again
    stream = io.StringIO()
    logs.configure(level="INFO", json=False, service="x", stream=stream)
    running.set(FakeRun(1))  # type: ignore[arg-type]
    logging.getLogger("fourlane.worker").warning("retry job=job1 task=send attempt=1")
    logging.getLogger("mine").warning("hello")
    own, mine = stream.getvalue().splitlines()
    assert own.endswith(" WARNING fourlane.worker retry job=job1 task=send attempt=1")
    assert re.search(r"WARNING mine hello \[job=job1 task=send trace=[0-9a-f]{32} tenant=org1\]$", mine)


def test_a_program_that_logs_its_own_way_is_left_alone(root: logging.Logger) -> None:
    root.handlers.clear()  # pytest has added its own again
    own = logging.NullHandler()
    root.addHandler(own)
    logs.configure(level="INFO", json=True, service="x")
    assert root.handlers == [own]


def test_a_line_below_the_level_costs_a_look(root: logging.Logger) -> None:
    root.handlers.clear()  # pytest has added its own again
    logs.configure(level="INFO", json=True, service="shop", stream=io.StringIO())
    running.set(FakeRun(1))  # type: ignore[arg-type]
    mine = logging.getLogger("mine")
    off = min(timeit.repeat(lambda: mine.debug("quiet %s", 1), number=1_000, repeat=5))
    on = min(timeit.repeat(lambda: mine.info("loud %s", 1), number=1_000, repeat=5))
    assert off * 10 < on


# Figures and ids --------------------------------------------------------------------------------------------


def test_series_are_bounded_and_nothing_is_lost() -> None:
    meter = Meter()
    for number in range(3_000):
        meter.counted("ai_cost_usd", ("openai", "m", f"t{number}"), 1)
    counts = meter.figures.counts["ai_cost_usd"]
    assert len(counts) <= 1_001
    assert sum(counts.values()) == 3_000


def test_figures_of_processes_are_added() -> None:
    one = Figures({"turns": {"a": 2}}, {"job_run_seconds": {"k": Times([1, 0], 0.5)}})
    other = Figures({"turns": {"a": 3}}, {"job_run_seconds": {"k": Times([0, 2], 4.0, {1: Exemplar("t", 2.0, 0.0)})}})
    one.fold(other)
    assert one.counts == {"turns": {"a": 5}}
    assert one.times["job_run_seconds"]["k"].buckets == [1, 2]
    assert one.times["job_run_seconds"]["k"].sum == 4.5


@pytest.mark.parametrize(
    ("header", "known"),
    [
        (f"00-{'a' * 32}-{'b' * 16}-01", True),
        (f"00-{'0' * 32}-{'b' * 16}-01", False),
        ("nonsense", False),
        (7, False),
    ],
)
def test_a_traceparent_that_cannot_be_read_is_none(header: object, known: bool) -> None:
    assert (ids.parent_of({"traceparent": header}) is not None) is known
    assert ids.trace_id_of("1", {"traceparent": header}) > 0


def test_an_entry_tells_since_when_it_is_ready() -> None:
    job_id = new_id(1, 1_764_000_000_123)
    assert ready_since_ms(job_id) == 1_764_000_000_123
    assert ready_since_ms(f"{job_id}|rt1764000009999") == 1_764_000_009_999
    assert ready_since_ms("1.some-uuid|r") is None


def test_what_is_on_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    from fourlane.errors import SettingsError

    begin = importlib.import_module("fourlane.observe.begin")  # the package has a function of this name
    monkeypatch.setattr(begin, "_is_there", lambda module: False)
    check(Observe())
    with pytest.raises(SettingsError, match=r"FOURLANE_METRICS needs .*fourlane\[prometheus\]"):
        check(Observe(metrics=True))


# Files ------------------------------------------------------------------------------------------------------


def test_alert_rules_are_sound_and_have_their_runbooks() -> None:
    rules = ROOT / "deploy/prometheus-rules.yaml"
    text = rules.read_text()
    for page in re.findall(r"runbook: (\S+)", text):
        assert (ROOT / page).exists(), page
    assert {"HighErrorRate", "SlowResponseTime", "HighAICost"} <= set(re.findall(r"alert: (\w+)", text))
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("no promtool on this machine (Debian: prometheus)")
    done = subprocess.run([promtool, "check", "rules", str(rules)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "file", ["deploy/prometheus-rules.yaml", "deploy/grafana-dashboard.json", "deploy/keda.yaml", "deploy/hpa.yaml"]
)
def test_files_name_only_figures_that_exist(file: str) -> None:
    code = (ROOT / "fourlane/observe/metrics.py").read_text()
    known = {f"fourlane_{name}" for name in CATALOGUE} | set(re.findall(r"fourlane_\w+", code))
    known |= {f"fourlane_{name}" for name in ("crashes", "hard_limit_kills", "poisoned")}
    known |= {"fourlane_slots_in_use"}  # made by the adapter, as deploy/hpa.yaml says
    for name in set(re.findall(r"fourlane_[a-z_]+", (ROOT / file).read_text())):
        assert re.sub(r"_(total|bucket|sum|count)$", "", name) in known, name


def test_the_dashboard_is_json() -> None:
    board = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) == 18
