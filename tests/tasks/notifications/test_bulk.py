"""Many emails in one job, by Resend's batches: sent once, whatever goes wrong between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from fourlane.db.engine import Database
from fourlane.db.models import NotificationRecord
from fourlane.errors import RateLimited, Reject
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.notifications import InvalidNotification, Notification, bulk, deliver, notify_many
from fourlane.tasks.notifications.ledger import Ledger
from fourlane.tasks.notifications.notify import _jobs
from tests.command import Command
from tests.servers import eventually
from tests.tasks.notifications.conftest import Run
from tests.tasks.notifications.standins import Providers

Records = Callable[[], list[NotificationRecord]]


def mails(number: int, **more: Any) -> list[dict[str, Any]]:
    return [{"to": f"u{n}@example.com", "subject": "Hi", "text": f"Hello {n}"} | more for n in range(number)]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What gets a job of its own."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(deliver.email, "send_with_options", lambda **options: calls.append(options))
    return calls


def test_a_hundred_go_in_one_request(run: Run, providers: Providers, records: Records) -> None:
    user = str(uuid.uuid4())
    told = run("emails", notifications=mails(100, user_id=user, reply_to=["help@example.com"]))
    assert {one["status"] for one in told} == {"sent"}
    assert [one["message_id"] for one in told] == [f"email-{n}" for n in range(1, 101)]
    assert [mail["to"] for mail in providers.emails] == [[f"u{n}@example.com"] for n in range(100)]
    assert [request.path for request in providers.requests] == ["/emails/batch"]
    assert "List-Unsubscribe" in providers.emails[7]["headers"]
    assert providers.emails[7]["tags"] == [{"name": "fourlane_record", "value": told[7]["record_id"]}]
    assert {(record.status, bool(record.batch)) for record in records()} == {("sent", True)}
    assert run("emails", notifications=mails(100, user_id=user, reply_to=["help@example.com"])) == told
    assert len(providers.requests) == 1


def test_each_is_asked_about_and_what_cannot_join_gets_a_job_of_its_own(
    run: Run, ledger: Ledger, providers: Providers, alone: list[dict[str, Any]]
) -> None:
    given = mails(5)
    given[1]["attachments"] = [{"source": "data:text/plain,hello", "name": "a.txt"}]
    given[2]["urgent"] = True
    given[4]["to"] = "nobody"
    ledger.suppress("email", "u0@example.com", reason="bounce")
    told = run("emails", notifications=given)
    assert [one["status"] for one in told] == ["suppressed", "alone", "alone", "sent", "failed"]
    assert told[4]["reason"] == "'nobody' is no email address"
    assert [one["kwargs"]["part_of"] for one in alone] == ["job-1:1", "job-1:2"]
    assert run("email", "j2", **alone[0]["kwargs"])["status"] == "sent"
    assert run("email", "j3", **alone[0]["kwargs"])["status"] == "sent"  # one job too many
    assert [mail["to"] for mail in providers.emails] == [["u3@example.com"], ["u1@example.com"]]


def test_one_that_is_refused_is_the_end_of_no_other(
    run: Run, providers: Providers, alone: list[dict[str, Any]], records: Records
) -> None:
    given = mails(3)
    given[1]["to"] = "invalid@example.com"
    assert [one["status"] for one in run("emails", notifications=given)] == ["sent", "alone", "sent"]
    with pytest.raises(Reject, match="validation_error"):  # which says why
        run("email", "j2", **alone[0]["kwargs"])
    assert [record.status for record in records()] == ["sent", "failed", "sent"]
    assert [mail["to"][0] for mail in providers.emails] == ["u0@example.com", "u2@example.com"]


FAULTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    # the fault, what is raised, the records' status afterwards
    ({"status": 429, "headers": {"retry-after": "7"}}, RateLimited, "pending"),
    ({"status": 500, "times": 4}, deliver.SendFailed, "sending"),
    ({"status": 500, "times": 4, "taken": True}, deliver.SendFailed, "sending"),
    ({"status": 200, "body": b'{"data": [', "taken": True}, deliver.SendFailed, "sending"),
    ({"status": 200, "body": b'{"data": []}', "taken": True}, deliver.SendFailed, "sending"),
    ({"status": 200, "cut": 0, "times": 4, "taken": True}, deliver.SendFailed, "sending"),
    ({"status": 401, "body": b'{"name": "missing_api_key"}'}, Reject, "failed"),
]


@pytest.mark.parametrize(("fault", "error", "status"), FAULTS)
def test_a_batch_that_failed_is_sent_once(
    run: Run, providers: Providers, records: Records, fault: dict[str, Any], error: type[Exception], status: str
) -> None:
    providers.fail(**fault)
    with pytest.raises(error):
        run("emails", notifications=mails(3))
    assert {record.status for record in records()} == {status}
    providers.faults.clear()
    assert {one["status"] for one in run("emails", attempt=2, notifications=mails(3))} == {"sent"}
    assert len(providers.emails) == 3


def test_a_limit_that_follows_a_fault_leaves_the_question_open(run: Run, providers: Providers) -> None:
    """The first request may have been taken: it is repeated under its own key, and none is made anew."""
    providers.fail(500, taken=True)
    providers.fail(429)
    with pytest.raises(deliver.SendFailed, match=r"HTTP 500.*not known"):
        run("emails", notifications=mails(3))
    run("emails", attempt=2, notifications=mails(3))
    assert len(providers.emails) == 3
    assert len({request.headers["idempotency-key"] for request in providers.requests}) == 1


def test_a_report_that_comes_before_the_answer_changes_no_batch(
    run: Run, providers: Providers, ledger: Ledger, records: Records
) -> None:
    providers.fail(200, body=b"", taken=True)
    with pytest.raises(deliver.SendFailed):
        run("emails", notifications=mails(3))
    ledger.reported(record_id=records()[1].id, message_id="email-2", status="delivered")
    ledger.suppress("email", "u2@example.com", reason="bounce")  # nor does what is known since
    told = run("emails", attempt=2, notifications=mails(3))
    assert [one["message_id"] for one in told] == ["email-1", "email-2", "email-3"]
    assert len(providers.emails) == 3
    assert [record.status for record in records()] == ["sent", "delivered", "sent"]


def test_a_batch_of_long_ago_is_not_sent_again_and_the_others_are(
    run: Run, providers: Providers, database: Database, records: Records
) -> None:
    providers.fail(200, body=b"", taken=True)
    with pytest.raises(deliver.SendFailed):
        run("emails", notifications=mails(2))
    with database.begin() as session:  # Resend has forgotten the key by then
        session.execute(update(NotificationRecord).values(updated_at=datetime.now(UTC) - timedelta(hours=13)))
    with pytest.raises(Reject, match=r"whether it was sent at .* is not known"):
        run("emails", attempt=2, notifications=mails(3))
    assert [mail["to"] for mail in providers.emails] == [[f"u{n}@example.com"] for n in range(3)]
    assert sorted(record.status for record in records()) == ["sending", "sending", "sent"]


def test_a_run_that_ended_before_the_batch_was_made_has_sent_nothing(
    run: Run, providers: Providers, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, records: Records
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "join", killed)
        with pytest.raises(Killed):
            run("emails", notifications=mails(3))
    assert {record.status for record in records()} == {"sending"}
    assert {one["status"] for one in run("emails", attempt=2, notifications=mails(3))} == {"sent"}
    assert len(providers.emails) == 3


def test_all_go_alone_by_smtp(
    run: Run, monkeypatch: pytest.MonkeyPatch, alone: list[dict[str, Any]], records: Records
) -> None:
    monkeypatch.setenv("FOURLANE_SMTP_URL", "smtp://127.0.0.1:1")
    for _ in range(2):  # the second run after a kill
        assert {one["status"] for one in run("emails", notifications=mails(3))} == {"alone"}
    assert [one["kwargs"]["part_of"] for one in alone] == ["job-1:0", "job-1:1", "job-1:2"] * 2
    assert records() == []


def test_jobs_are_of_one_organization_and_not_too_long() -> None:
    a, b = uuid.uuid4(), uuid.uuid4()
    some = [Notification(to="x@example.com", text="x", organization_id=(a, b)[n % 2]) for n in range(250)]
    long = [Notification(to="x@example.com", text="x" * 100_000) for _ in range(5)]
    assert sorted((whose, len(part)) for whose, part in _jobs(some)) == sorted([(a, 100), (a, 25), (b, 100), (b, 25)])
    assert [len(part) for _, part in _jobs(long)] == [2, 2, 1]
    assert list(_jobs([])) == []


def test_what_is_wrong_is_refused_before_there_is_a_job(
    ledger: Ledger, broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk.emails, "broker", broker)
    with pytest.raises(InvalidNotification, match="'ada' is no email address"):
        notify_many([Notification(to="ada@example.com", text="x"), Notification(to="ada", text="x")])
    for wrong, reason in (
        ({"notifications": mails(101)}, "1 to 100 emails, not 101"),
        ({"notifications": []}, "not 0"),
        ({"notifications": [{"to": "ada"}]}, "number 0: "),
        ({"to": "ada@example.com"}, "notifications=…"),
    ):
        with pytest.raises(InvalidNotification, match=reason):
            bulk.emails.send(**wrong)


# --- By real workers -------------------------------------------------------------------------------

ENQUEUE = """
import json, sys
from fourlane.tasks.notifications import Notification, notify_many
notify_many([Notification(**fields) for fields in json.load(sys.stdin)])
"""


def enqueue(command: Command, notifications: list[dict[str, Any]]) -> None:
    subprocess.run(
        [sys.executable, "-c", ENQUEUE], input=json.dumps(notifications), text=True, env=command.env, check=True
    )


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
def test_a_worker_killed_in_the_middle_of_a_batch(
    command: Command, ledger: Ledger, providers: Providers, records: Records
) -> None:
    enqueue(command, mails(20))
    never = threading.Event()
    providers.fail(200, hang=never, taken=True)  # the provider has them, the worker does not know
    try:
        killed = command.start("worker", "fourlane.tasks.notifications")
        assert providers.arrived.wait(20)
        assert {record.status for record in records()} == {"sending"}
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait(10)
        command.start("worker", "fourlane.tasks.notifications")
        eventually(lambda: {record.status for record in records()} == {"sent"}, 30)
    finally:
        never.set()
    assert len(providers.emails) == 20


@pytest.mark.parametrize("migrated_url", ["postgresql"], indirect=True)
def test_two_workers_keep_to_the_rate_without_a_refusal(
    command: Command, ledger: Ledger, providers: Providers, records: Records
) -> None:
    """Batches and single ones by two workers, at an account that takes ten requests a second."""
    providers.per_second = 10
    command.env["FOURLANE_RESEND_PER_SECOND"] = "10"
    enqueue(command, mails(2_000))
    enqueue(command, mails(20, attachments=[{"source": "data:text/plain,hello", "name": "a.txt"}]))
    for _ in range(2):
        command.start("worker", "fourlane.tasks.notifications")
    eventually(lambda: len(providers.emails) == 2_020, 60)
    assert providers.refused == 0
    assert len(providers.asked_at) == 40
    assert len({(mail["to"][0], "attachments" in mail) for mail in providers.emails}) == 2_020
