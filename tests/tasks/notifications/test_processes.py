"""The way in, and real workers that are killed in the middle of a send."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fourlane.db.models import NotificationRecord
from fourlane.errors import SettingsError
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.notifications import InvalidNotification, Notification, alert, deliver, notify
from fourlane.tasks.notifications.ledger import Ledger
from tests.command import Command
from tests.servers import eventually
from tests.tasks.notifications.standins import Providers

Records = Callable[[], list[NotificationRecord]]

ENQUEUE = """
import json, sys
from fourlane.tasks.notifications import Notification, notify
for channel, fields in json.loads(sys.argv[1]):
    print(notify(channel, Notification(**fields)).id)
"""


def enqueue(command: Command, *calls: tuple[str, dict[str, Any]]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", ENQUEUE, json.dumps(calls)], env=command.env, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("channel", "notification", "reason"),
    [
        ("email", Notification(to="ada", text="x"), "'ada' is no email address"),
        ("fax", Notification(to="ada", text="x"), "'fax' is no channel; use email, sms, push, slack, pagerduty"),
        ("email", Notification(to="ada@example.com", template="none"), "there is no template 'none'"),
        ("email", Notification(to="ada@example.com", template="hi", data={"nam": "x"}), "'name' is undefined"),
        ("email", Notification(to="ada@example.com", template="hi", digest="d"), "'name' is undefined"),
        ("slack", Notification(text="x", severity="loud"), "Invalid enum value 'loud'"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_is_refused_at_enqueue(
    ledger: Ledger, template: Callable[..., None], channel: Any, notification: Notification, reason: str
) -> None:
    template("hi", txt="Hi {{ name }}")
    with pytest.raises(InvalidNotification, match=reason):
        notify(channel, notification)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"to": "ada", "text": "x"}, "'ada' is no email address"),
        ({"to": "ada@example.com", "template": "hi", "data": {"nam": "x"}}, "'name' is undefined"),
        ({"to": "ada@example.com", "texxt": "x"}, "unknown field `texxt`"),
    ],
)
@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
def test_the_tasks_themselves_refuse_it_too(
    ledger: Ledger, command: Command, broker: RedisBroker, template: Callable[..., None], fields: dict[str, Any],
    reason: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    template("hi", txt="Hi {{ name }}")
    monkeypatch.setattr(deliver.email, "broker", broker)
    with pytest.raises(InvalidNotification, match=reason):
        deliver.email.send(**fields)
    with pytest.raises(InvalidNotification, match="by their names"):
        deliver.email.send("ada@example.com", "Hello")
    module = ("--module", "fourlane.tasks.notifications")
    done = command("enqueue", "fourlane.notifications.email", "--kwargs", json.dumps(fields), *module)
    assert done.returncode != 0
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert broker.store.services() == []


def test_an_alert_goes_by_its_severity(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    went: dict[str, Any] = {}
    for channel, task in deliver.TASKS.items():
        monkeypatch.setattr(
            task, "send_with_options", lambda channel=channel, **options: went.update({channel: options})
        )
    for severity in ("critical", "error", "warning"):
        alert(f"a {severity}", severity=severity, incident="db")
    assert {channel: options["kwargs"]["subject"] for channel, options in went.items()} == {
        "pagerduty": "a critical",
        "slack": "a warning",
    }
    assert went["pagerduty"]["kwargs"]["urgent"]
    with pytest.raises(SettingsError, match="FOURLANE_ALERT_EMAIL is not set"):
        alert("for your information", severity="info")


def test_a_producer_needs_neither_database_nor_http(
    command: Command, environment: dict[str, str], template: Callable[..., None]
) -> None:
    template("hi", txt="Hi {{ name }}")
    program = (
        "import sys; from fourlane.tasks.notifications import Notification, notify; "
        "notify('email', Notification(to='ada@example.com', template='hi', data={'name': 'x'})); "
        "heavy = {'sqlalchemy', 'httpx', 'httpcore', 'pywebpush'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=command.env)


def test_a_notification_in_the_callers_transaction(
    command: Command, ledger: Ledger, providers: Providers, records: Records
) -> None:
    program = """
from fourlane import app
from fourlane.config import load_settings
from fourlane.tasks.notifications import Notification, notify
database = app.open_database(load_settings())
for commit in (True, False):
    try:
        with database.begin() as session:
            notify("email", Notification(to="ada@example.com", text="x", dedup_key=str(commit)), session=session)
            assert commit, "the order was refused"
    except AssertionError:
        pass
"""
    subprocess.run([sys.executable, "-c", program], check=True, env=command.env)
    command.start("worker", "fourlane.tasks.notifications", "--relay")
    eventually(lambda: [record.status for record in records()] == ["sent"], 20)
    assert len(providers.emails) == 1


def test_all_channels_by_a_worker(command: Command, ledger: Ledger, providers: Providers, records: Records) -> None:
    enqueue(
        command,
        ("email", {"to": "ada@example.com", "text": "x"}),
        ("sms", {"to": "+4915112345678", "text": "x"}),
        ("push", {"to": providers.subscription, "text": "x"}),
        ("slack", {"text": "x"}),
        ("pagerduty", {"text": "x"}),
    )
    command.start("worker", "fourlane.tasks.notifications")
    eventually(lambda: [record.status for record in records()] == ["sent"] * 5, 20)
    assert [len(got) for got in (providers.emails, providers.texts, providers.pushes, providers.chat)] == [1] * 4
    assert len(providers.pages) == 1


def test_a_digest_by_a_worker(
    command: Command, ledger: Ledger, providers: Providers, template: Callable[..., None]
) -> None:
    template("likes", txt="{% for i in items %}{{ i.who }} {% endfor %}")
    fields = {"to": "ada@example.com", "template": "likes", "digest": "likes", "digest_seconds": 2}
    enqueue(command, *(("email", fields | {"data": {"who": str(number)}}) for number in range(20)))
    command.start("worker", "fourlane.tasks.notifications")
    eventually(lambda: providers.emails, 20)
    assert sorted(providers.emails[0]["text"].split(), key=int) == [str(number) for number in range(20)]


@pytest.mark.parametrize("channel", ["email", "sms", "push", "pagerduty"])
@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
def test_a_worker_killed_in_the_middle_of_a_send(
    command: Command, ledger: Ledger, providers: Providers, records: Records, channel: str
) -> None:
    to = {"email": "ada@example.com", "sms": "+4915112345678", "push": providers.subscription}.get(channel)
    enqueue(command, (channel, {"text": "once"} | ({} if to is None else {"to": to})))
    never = threading.Event()
    providers.fail(200, hang=never, taken=True)  # the provider has it, the worker does not know
    try:
        killed = command.start("worker", "fourlane.tasks.notifications")
        assert providers.arrived.wait(20)
        assert records()[0].status == "sending"
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait(10)
        command.start("worker", "fourlane.tasks.notifications")
        eventually(lambda: records()[0].status == "sent", 30)
    finally:
        never.set()
    assert (len(providers.emails), len(providers.texts), len(providers.pages)) == {
        "email": (1, 0, 0),
        "sms": (0, 1, 0),
        "push": (0, 0, 0),
        "pagerduty": (0, 0, 1),
    }[channel]
    # A browser shows the second push in the place of the first, and the push service keeps one of a topic.
    assert len({push["tag"] for push in providers.pushes}) == (1 if channel == "push" else 0)
    topics = {request.headers.get("topic") for request in providers.requests}
    assert len(topics) == 1
