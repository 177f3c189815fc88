"""What Sentry is sent: by the real worker, to an endpoint of this test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fourlane.observe.monitors import monitor_config, slug_of
from fourlane.queues.schedules import Schedule
from tests.command import Command, run_python
from tests.observe.receivers import Receiver
from tests.servers import eventually

TASKS = """
import sentry_sdk
import fourlane

options = {"service": "shop", "backoff": fourlane.Backoff(min_ms=1, max_ms=1)}

@fourlane.task(max_retries=1, **options)
def failing(card):
    password = "hunter2"
    raise ValueError(f"refused for {card}, attempt {fourlane.current_job().attempt}")

@fourlane.task(max_retries=0, throws=KeyError, **options)
def expected():
    raise KeyError("known")

@fourlane.task(max_retries=0, **options)
def steered():
    raise fourlane.Reject("not today")

@fourlane.task(**options)
def talking():
    sentry_sdk.set_tag("colour", "red")
    sentry_sdk.get_current_scope().set_tag("shape", "round")
    with sentry_sdk.start_transaction(name="talk"):
        pass

@fourlane.task(**options)
def calling():
    with sentry_sdk.start_transaction(name="GET /x?api_key=hunter2Zq", op="http") as outer:
        outer.set_data("to", "bob@example.com")
        with outer.start_child(op="db", name="UPDATE x SET password='hunter2Zq'") as inner:
            inner.set_data("url", "https://hooks.slack.com/services/T/B/hunter2Zq")

@fourlane.task(max_retries=0, **options)
def telling():
    sentry_sdk.set_user({"id": "u7", "email": "bob@example.com"})
    sentry_sdk.set_tag("mine", "yes")
    sentry_sdk.set_tag("opens", "sk-hunter2Zqhunter2Zq")
    sentry_sdk.add_breadcrumb(message="password: hunter2Zq")
    raise OSError("after the tag")

@fourlane.cron("0 0 29 2 *", timezone="Europe/Berlin")
@fourlane.task(timeout_ms=90_000, service="shop", max_retries=1, backoff=options["backoff"])
def nightly():
    if fourlane.current_job().attempt == 1:
        raise RuntimeError("once")

@fourlane.cron("0 0 29 2 *")
@fourlane.task(service="shop", max_retries=1, backoff=options["backoff"])
def hopeless():
    raise RuntimeError("always")
"""

Start = Callable[..., None]


@pytest.fixture
def command(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Command]:
    made = Command(tmp_path, REDIS_URL=redis_url, FOURLANE_NAMESPACE=namespace, PYTHONWARNINGS="ignore")
    made.module("shop", TASKS)
    yield made
    made.close()


@pytest.fixture
def start(command: Command, receiver: Receiver, tmp_path: Path) -> Start:
    """A worker of one slot that reports to the receiver."""

    def started(**env: str) -> None:
        command.env |= {"SENTRY_DSN": receiver.url.replace("//", "//key@") + "/1"} | env
        log = tmp_path / "log"
        with log.open("wb") as stream:
            command.start("worker", "shop", "--slots", "1", stderr=stream)
        eventually(lambda: "ready:" in log.read_text(), 30)

    return started


def send(command: Command, code: str) -> None:
    run_python(command, f"import shop; {code}", SENTRY_DSN="")


def items(receiver: Receiver, kind: str) -> list[dict[str, Any]]:
    return [item for item in receiver.envelopes() if item["item"] == kind]


def test_one_report_for_a_job_and_none_for_what_was_meant(start: Start, command: Command, receiver: Receiver) -> None:
    start(FOURLANE_ENVIRONMENT="staging", SENTRY_RELEASE="shop@1.2.3")
    send(command, "shop.expected.send(); shop.steered.send(); shop.talking.send()")
    send(command, "shop.failing.send_with_options(args=('4242 4242 4242 4242',), user_id='u1', tenant='org_7')")
    send(command, "shop.telling.send()")
    both = eventually(lambda: found if len(found := items(receiver, "event")) == 2 else None, 20)
    last, told = sorted(both, key=lambda event: str(event["tags"]["task"]))
    assert (last["environment"], last["release"]) == ("staging", "shop@1.2.3")
    assert last["fingerprint"] == ["fourlane", "failing", "builtins", "ValueError"]
    assert (last["transaction"], last["user"]) == ("failing", {"id": "u1"})
    tags = last["tags"]
    assert (tags["task"], tags["attempt"], tags["tier"]) == ("failing", 2, "normal")
    assert (tags["queue"], tags["service"]) == ("staging.jobs.normal.shop", "shop")
    assert len(tags["trace_id"]) == 32
    assert tags["organization_id"] == "org_7"
    assert tags["job_id"]
    [error] = last["exception"]["values"]
    assert error["value"] == "refused for [card], attempt 2"
    assert error["mechanism"]["type"] == "fourlane"
    text = json.dumps(last)
    assert "4242" not in text
    assert '"vars"' not in text
    # What a job told Sentry stays with it, though the next one ran in the same thread.
    assert told["tags"]["mine"] == "yes"
    assert not {"colour", "shape"} & (set(told["tags"]) | set(tags))
    assert told["user"] == {"id": "u7"}
    assert not any(secret in json.dumps(told) for secret in ("hunter2Zq", "bob@example.com"))
    assert items(receiver, "transaction") == []


def test_each_attempt_and_performance_when_asked(start: Start, command: Command, receiver: Receiver) -> None:
    start(FOURLANE_SENTRY_EVERY_ATTEMPT="true", FOURLANE_SENTRY_TRACES_PERCENT="100")
    send(command, "shop.failing.send('x'); shop.talking.send()")
    both = eventually(lambda: found if len(found := items(receiver, "event")) == 2 else None, 20)
    assert [event["tags"]["attempt"] for event in both] == [1, 2]
    assert both[0]["fingerprint"] == both[1]["fingerprint"]
    assert [item["transaction"] for item in eventually(lambda: items(receiver, "transaction"), 10)] == ["talk"]


def test_a_transaction_shows_no_secrets_and_keeps_its_shape(start: Start, command: Command, receiver: Receiver) -> None:
    start(FOURLANE_SENTRY_TRACES_PERCENT="100")
    send(command, "shop.calling.send()")
    [sent] = eventually(lambda: items(receiver, "transaction"), 20)
    assert not any(secret in json.dumps(sent) for secret in ("hunter2Zq", "bob@example.com"))
    assert sent["transaction"] == "GET /x?api_key=[redacted]"
    [span] = sent["spans"]
    outer = sent["contexts"]["trace"]
    assert (span["trace_id"], span["parent_span_id"]) == (outer["trace_id"], outer["span_id"])
    assert len(span["trace_id"]) == 32
    assert span["start_timestamp"] <= span["timestamp"]


def test_no_share_of_the_reports(start: Start, command: Command, receiver: Receiver) -> None:
    start(FOURLANE_SENTRY_PERCENT="0")
    send(command, "shop.failing.send('x')")
    eventually(lambda: command("schedules", "fire", "nightly").returncode == 0, 20)
    eventually(lambda: len(items(receiver, "check_in")) == 2, 20)  # these are no errors: all are sent
    assert items(receiver, "event") == []


def test_a_schedule_is_a_monitor(start: Start, command: Command, receiver: Receiver) -> None:
    start(FOURLANE_ENVIRONMENT="staging")
    eventually(lambda: command("schedules", "fire", "nightly").returncode == 0, 20)
    begun, ended = eventually(lambda: found if len(found := items(receiver, "check_in")) == 2 else None, 20)
    assert (begun["monitor_slug"], begun["status"], begun["environment"]) == ("nightly", "in_progress", "staging")
    assert (ended["status"], ended["check_in_id"]) == ("ok", begun["check_in_id"])
    config = {
        "schedule": {"type": "crontab", "value": "0 0 29 2 *"},
        "timezone": "Europe/Berlin",
        "checkin_margin": 1,
        "max_runtime": 2,
    }
    assert (begun["monitor_config"], ended["monitor_config"]) == (config, config)

    assert command("schedules", "fire", "hopeless").returncode == 0
    eventually(lambda: len(items(receiver, "check_in")) == 4, 20)
    statuses = [(item["monitor_slug"], item["status"]) for item in items(receiver, "check_in")[2:]]
    assert statuses == [("hopeless", "in_progress"), ("hopeless", "error")]  # once, though it was tried twice


@pytest.mark.parametrize(
    ("rule", "schedule"),
    [
        ({"cron": "0 4 * * MON-FRI"}, {"type": "crontab", "value": "0 4 * * MON-FRI"}),
        ({"cron": "0 4 * JUL *"}, {"type": "crontab", "value": "0 4 * JUL *"}),
        ({"cron": "@daily"}, {"type": "crontab", "value": "@daily"}),
        ({"every_ms": 120_000}, {"type": "interval", "value": 2, "unit": "minute"}),
        ({"cron": "*/10 * * * * *"}, None),  # by the second
        ({"cron": "0 4 L * *"}, None),  # Sentry does not know these two
        ({"cron": "0 4 * * 5#2"}, None),
        ({"every_ms": 90_000}, None),
        ({"at_ms": [1]}, None),
    ],
)
def test_what_a_monitor_expects(rule: dict[str, Any], schedule: dict[str, Any] | None) -> None:
    made = Schedule(name="x", service="shop", task="x", late_after_ms=150_000, spread_ms=60_000, **rule)
    config = monitor_config(made, 0)
    assert config == (schedule and {"schedule": schedule, "timezone": "UTC", "checkin_margin": 4})


def test_a_monitors_name() -> None:
    assert slug_of("Close books.2026/Q3") == "close-books-2026-q3"


def test_a_dsn_that_is_none_is_refused_in_a_line(command: Command) -> None:
    done = command("worker", "shop", SENTRY_DSN="nonsense")
    assert done.returncode != 0
    assert "SENTRY_DSN: is no DSN; copy it from the project's client keys" in done.stderr
    assert "Traceback" not in done.stderr
