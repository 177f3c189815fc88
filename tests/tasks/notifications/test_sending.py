"""Each channel against a stand-in over HTTP or SMTP; what is recorded; what happens when providers fail."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.message import Message as Mail
from typing import Any

import py_vapid
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler
from sqlalchemy import update

from fourlane.db.engine import Database
from fourlane.db.models import NotificationRecord
from fourlane.errors import RateLimited, Reject, Snooze
from fourlane.tasks.notifications import deliver, setup
from fourlane.tasks.notifications.deliver import SendFailed
from fourlane.tasks.notifications.ledger import Ledger
from tests.servers import free_port
from tests.tasks.notifications.conftest import Run
from tests.tasks.notifications.standins import Providers

Records = Callable[[], list[NotificationRecord]]
MAIL = {"to": "ada@example.com", "subject": "Hi", "text": "Hello Ada"}
SMS = {"to": "+4915112345678", "text": "Your code is 1234"}


# --- Channels --------------------------------------------------------------------------------------


def test_an_email_is_sent_and_recorded(run: Run, providers: Providers, records: Records) -> None:
    user = uuid.uuid4()
    result = run("email", **MAIL, html="<p>Hello Ada", user_id=str(user), category="news")
    (mail,) = providers.emails
    assert (mail["from"], mail["to"]) == ("Fourlane <hello@example.com>", ["ada@example.com"])
    assert (mail["subject"], mail["text"], mail["html"]) == ("Hi", "Hello Ada", "<p>Hello Ada")
    assert mail["headers"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    (record,) = records()
    assert result == {"status": "sent", "record_id": str(record.id), "message_id": "email-1", "reason": ""}
    assert (record.status, record.provider, record.provider_message_id) == ("sent", "resend", "email-1")
    assert (record.recipient, record.user_id, record.job_id) == ("ada@example.com", user, "job-1")
    assert record.sent_at is not None
    assert providers.requests[0].headers["idempotency-key"] == f"fourlane/{record.id}"


def test_an_sms_is_sent_with_the_address_for_reports(run: Run, providers: Providers, records: Records) -> None:
    run("sms", **SMS)
    (text,) = providers.texts
    assert (text["to"], text["body"]) == (SMS["to"], SMS["text"])
    assert text["callback"] == f"https://example.com/n/twilio?record={records()[0].id}"
    assert (records()[0].status, records()[0].provider_message_id) == ("sent", "SM1")


def test_a_push_is_encrypted_for_the_browser_and_signed(
    run: Run, providers: Providers, environment: dict[str, str]
) -> None:
    result = run("push", to=providers.subscription, subject="Ready", text="Your video is done", details={"url": "/v/1"})
    assert providers.pushes == [
        {"title": "Ready", "body": "Your video is done", "tag": result["record_id"], "data": {"url": "/v/1"}}
    ]
    request = providers.requests[0]
    assert b"video" not in request.body
    scheme, _, rest = request.headers["authorization"].partition(" ")
    token, key = (part.partition("=")[2] for part in rest.replace(" ", "").split(","))
    assert scheme == "vapid"
    assert py_vapid.Vapid02.verify(request.headers["authorization"])
    assert token.count(".") == 2
    assert key
    assert len(request.headers["topic"]) == 32


def test_alerts_go_to_slack_and_pagerduty(run: Run, providers: Providers) -> None:
    run("slack", "j1", subject="Queue is long", text="5000 jobs")
    run("pagerduty", "j2", subject="Database down", severity="critical", incident="db", details={"host": "a"})
    run("pagerduty", "j3", subject="Database is back", incident="db", resolved=True)
    assert providers.chat == ["*Queue is long*\n5000 jobs"]
    assert list(providers.pages) == ["db"]
    assert providers.pages["db"]["event_action"] == "resolve"
    assert json.loads(providers.requests[1].body)["payload"] == {
        "summary": "Database down",
        "source": "fourlane",
        "severity": "critical",
        "custom_details": {"host": "a"},
    }


class Mailbox(MessageHandler):
    """Takes mail over SMTP, and refuses some."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Mail] = []

    def handle_message(self, message: Mail) -> None:
        self.mails.append(message)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("nobody"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("busy"):
            return "450 4.2.1 mailbox is busy"
        envelope.rcpt_tos.append(address)
        return "250 OK"


@pytest.fixture
def mailbox(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    monkeypatch.setenv("FOURLANE_SMTP_URL", f"smtp://127.0.0.1:{controller.port}")
    yield box
    controller.stop()


def test_an_email_by_smtp(mailbox: Mailbox, run: Run, records: Records) -> None:
    run("email", **MAIL | {"text": "Grüße\n.\n" + "more\n" * 300}, html="<p>Grüße")
    (mail,) = mailbox.mails
    assert (mail["to"], mail["subject"]) == ("ada@example.com", "Hi")
    parts = {part.get_content_type(): part for part in mail.walk()}
    text: Any = parts["text/plain"].get_payload(decode=True)
    assert text.decode().split() == ["Grüße", ".", *["more"] * 300]
    assert "text/html" in parts
    assert mail["message-id"] == f"<{records()[0].id}@example.com>" == records()[0].provider_message_id


def test_an_address_that_smtp_refuses(mailbox: Mailbox, run: Run, records: Records) -> None:
    with pytest.raises(Reject, match=r"550: 5\.1\.1 no such mailbox"):
        run("email", "j1", **MAIL | {"to": "nobody@example.com"})
    with pytest.raises(SendFailed, match=r"450: 4\.2\.1 mailbox is busy"):
        run("email", "j2", **MAIL | {"to": "busy@example.com"})
    assert [record.status for record in records()] == ["failed", "pending"]
    again = run("email", "j3", **MAIL | {"to": "nobody@example.com"})
    assert (again["status"], again["reason"]) == ("suppressed", "the address is suppressed: bounce")


# --- Faults ----------------------------------------------------------------------------------------

FAULTS: list[tuple[dict[str, Any], type[Exception], str, str]] = [
    # the fault, what is raised, what it says, the record's status afterwards
    ({"status": 429, "headers": {"retry-after": "7"}}, RateLimited, "run again in 7 s", "pending"),
    ({"status": 429}, SendFailed, "HTTP 429", "pending"),
    ({"status": 500, "times": 4}, SendFailed, "HTTP 500", "sending"),
    ({"status": 200, "body": b'{"id": '}, SendFailed, "cannot be read; whether it was sent is not known", "sending"),
    ({"status": 200, "body": b"[]"}, SendFailed, "cannot be read", "sending"),
    ({"status": 200, "cut": 0, "times": 4}, SendFailed, "not known", "sending"),
    ({"status": 422, "body": b'{"name": "validation_error", "message": "bad to"}'}, Reject, "bad to", "failed"),
    ({"status": 401, "body": b'{"name": "x", "message": "key is wrong"}'}, Reject, "resend refuses our key", "failed"),
]


@pytest.mark.parametrize(("fault", "error", "says", "status"), FAULTS)
def test_a_fault_of_resend(
    run: Run,
    providers: Providers,
    records: Records,
    fault: dict[str, Any],
    error: type[Exception],
    says: str,
    status: str,
) -> None:
    providers.fail(**fault)
    with pytest.raises(error, match=says):
        run("email", **MAIL)
    assert [record.status for record in records()] == [status]
    providers.faults.clear()
    if error is not Reject:  # the same job again
        assert run("email", **MAIL)["status"] == "sent"
        assert len(providers.emails) == 1


@pytest.mark.parametrize("channel", ["email", "pagerduty"])
def test_a_short_fault_is_outlived_within_the_call(run: Run, providers: Providers, channel: str) -> None:
    providers.fail(503, times=2)
    assert run(channel, **(MAIL if channel == "email" else {"subject": "Down"}))["status"] == "sent"
    assert len(providers.requests) == 3


@pytest.mark.parametrize("taken", [True, False])
def test_a_provider_that_hangs(run: Run, providers: Providers, taken: bool, records: Records) -> None:
    never = threading.Event()
    try:
        providers.fail(200, hang=never, taken=taken)
        with pytest.raises(SendFailed, match=r"^timeout.*not known"):
            run("email", **MAIL)
        assert records()[0].status == "sending"
        assert run("email", attempt=2, **MAIL)["status"] == "sent"
    finally:
        never.set()
    assert len(providers.emails) == 1


def test_a_provider_that_is_down(run: Run, monkeypatch: pytest.MonkeyPatch, records: Records) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("FOURLANE_RESEND_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(SendFailed, match=r"^connection refused"):
        run("email", **MAIL)
    assert records()[0].status == "pending"
    with pytest.raises(SendFailed):
        run("email", attempt=6, **MAIL)  # the last one
    assert (records()[0].status, records()[0].error) == ("failed", "connection refused")


@pytest.mark.parametrize("taken", [True, False])
def test_an_sms_whose_answer_was_lost_is_looked_up(run: Run, providers: Providers, taken: bool) -> None:
    providers.fail(500, taken=taken)
    with pytest.raises(SendFailed, match="not known"):
        run("sms", **SMS)
    assert len(providers.requests) == 1  # no repetition within the call: Twilio could not tell it from a new one
    result = run("sms", attempt=2, **SMS)
    assert (result["status"], result["message_id"]) == ("sent", "SM1")
    assert len(providers.texts) == 1


def test_what_is_not_known_stays_so_while_the_provider_is_down(
    run: Run, providers: Providers, records: Records
) -> None:
    providers.fail(500, taken=True)
    with pytest.raises(SendFailed, match="not known"):
        run("sms", **SMS)
    carrier: Any = deliver.setup().carrier("sms")
    address, carrier._messages = carrier._messages, f"http://127.0.0.1:{free_port()}/"
    with pytest.raises(SendFailed, match=r"^connection refused"):
        run("sms", attempt=6, **SMS)
    assert records()[0].status == "sending"
    carrier._messages = address
    assert run("sms", **SMS)["message_id"] == "SM1"
    assert len(providers.texts) == 1


def test_a_guard_postpones_and_calls_nobody(
    run: Run, providers: Providers, monkeypatch: pytest.MonkeyPatch, records: Records
) -> None:
    def open_breaker(target: object, call: object) -> Any:
        raise RateLimited(30)

    monkeypatch.setattr(setup, "_setup", dataclasses.replace(deliver.setup(), guard=open_breaker))
    with pytest.raises(RateLimited):
        run("email", **MAIL)
    assert (records()[0].status, providers.requests) == ("pending", [])


def test_another_sms_of_the_same_words_is_not_taken_for_it(run: Run, providers: Providers) -> None:
    run("sms", "j1", **SMS)
    providers.fail(500)
    with pytest.raises(SendFailed):
        run("sms", "j2", **SMS)
    assert run("sms", "j2", attempt=2, **SMS)["message_id"] == "SM2"
    assert len(providers.texts) == 2


def test_a_number_that_twilio_calls_dead(run: Run, providers: Providers) -> None:
    providers.fail(400, body=b'{"code": 21610, "message": "unsubscribed recipient"}')
    with pytest.raises(Reject, match="21610: unsubscribed recipient"):
        run("sms", "j1", **SMS)
    assert run("sms", "j2", **SMS)["status"] == "suppressed"
    assert len(providers.requests) == 1


@pytest.mark.parametrize("status", [404, 410])
def test_a_subscription_that_has_ended(run: Run, providers: Providers, status: int) -> None:
    providers.fail(status)
    with pytest.raises(Reject, match="subscription has ended"):
        run("push", "j1", to=providers.subscription, text="x")
    assert run("push", "j2", to=providers.subscription, text="x")["status"] == "suppressed"


def test_push_to_our_own_network_is_refused(run: Run, providers: Providers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_PUSH_ALLOW_PRIVATE", "false")
    with pytest.raises(Reject, match="loopback address; FOURLANE_PUSH_ALLOW_PRIVATE=true allows it"):
        run("push", to=providers.subscription, text="x")
    assert providers.requests == []


# --- Once ------------------------------------------------------------------------------------------


def test_a_job_that_runs_again_after_it_sent_calls_nobody(run: Run, providers: Providers) -> None:
    first = run("email", **MAIL)
    assert run("email", **MAIL) == first
    assert len(providers.requests) == 1


def test_one_of_a_dedup_key_is_sent(run: Run, providers: Providers) -> None:
    run("email", "j1", **MAIL, dedup_key="welcome")
    second = run("email", "j2", **MAIL | {"to": "Ada@Example.com"}, dedup_key="welcome")
    assert second["status"] == "duplicate"
    run("email", "j3", **MAIL | {"to": "bob@example.com"}, dedup_key="welcome")
    run("email", "j4", **MAIL)
    assert len(providers.emails) == 3


def test_a_dedup_key_whose_first_job_failed_is_free(run: Run, providers: Providers) -> None:
    providers.fail(422)
    with pytest.raises(Reject):
        run("email", "j1", **MAIL, dedup_key="welcome")
    assert run("email", "j2", **MAIL, dedup_key="welcome")["status"] == "sent"


def test_a_dedup_key_whose_first_job_still_tries_is_taken(run: Run, providers: Providers) -> None:
    providers.fail(429)
    with pytest.raises(SendFailed):
        run("email", "j1", **MAIL, dedup_key="welcome")
    assert run("email", "j2", **MAIL, dedup_key="welcome")["status"] == "duplicate"
    assert run("email", "j1", **MAIL, dedup_key="welcome")["status"] == "sent"


def test_what_may_have_been_sent_long_ago_is_not_sent_again(
    run: Run, providers: Providers, records: Records, database: Database
) -> None:
    providers.fail(200, body=b"", taken=True)
    with pytest.raises(SendFailed):
        run("email", **MAIL)
    with database.begin() as session:  # Resend has forgotten the key by then
        session.execute(update(NotificationRecord).values(updated_at=datetime.now(UTC) - timedelta(hours=13)))
    with pytest.raises(Reject, match=r"whether it was sent at .* is not known"):
        run("email", attempt=2, **MAIL)
    with pytest.raises(Reject, match="is not known"):  # nor by a replay
        run("email", **MAIL)
    assert len(providers.emails) == 1


def test_waiting_for_the_provider_makes_an_open_question_no_younger(
    run: Run, providers: Providers, monkeypatch: pytest.MonkeyPatch, records: Records, database: Database
) -> None:
    providers.fail(200, body=b"", taken=True)
    with pytest.raises(SendFailed):
        run("email", **MAIL)
    long_ago = datetime.now(UTC) - timedelta(hours=11)
    with database.begin() as session:
        session.execute(update(NotificationRecord).values(updated_at=long_ago))

    def open_breaker(target: object, call: object) -> Any:
        raise RateLimited(30)

    monkeypatch.setattr(setup, "_setup", dataclasses.replace(deliver.setup(), guard=open_breaker))
    with pytest.raises(RateLimited):
        run("email", attempt=2, **MAIL)
    assert (records()[0].status, records()[0].updated_at) == ("sending", long_ago)


def test_a_send_whose_job_died_is_given_up_after_a_day_and_a_replay_does_not_repeat_it(
    run: Run, providers: Providers, ledger: Ledger, records: Records, database: Database
) -> None:
    providers.fail(200, body=b"", taken=True)
    with pytest.raises(SendFailed):
        run("email", **MAIL, dedup_key="welcome")
    run("email", "j2", **MAIL)
    assert ledger.give_up(datetime.now(UTC) - timedelta(days=1)) == 0
    with database.begin() as session:
        long_ago = datetime.now(UTC) - timedelta(days=2)
        session.execute(
            update(NotificationRecord).where(NotificationRecord.status == "sending").values(updated_at=long_ago)
        )
    assert ledger.give_up(datetime.now(UTC) - timedelta(days=1)) == 1
    assert sorted(record.status for record in records()) == ["sent", "unclear"]
    with pytest.raises(Reject, match=r"whether it was sent at .* is not known"):
        run("email", **MAIL, dedup_key="welcome")  # a replay of the dead letter
    other = run("email", "j3", **MAIL, dedup_key="welcome")
    assert (other["status"], other["reason"]) == ("duplicate", "whether job job-1 sent it is not known")
    assert len(providers.emails) == 2


def test_the_same_words_are_sent_in_each_attempt(run: Run, providers: Providers) -> None:
    """A key with other content is refused by Resend: the link for unsubscribing must not change."""
    providers.fail(200, body=b"", taken=True)
    with pytest.raises(SendFailed):
        run("email", **MAIL)
    assert run("email", attempt=2, **MAIL)["message_id"] == "email-1"


# --- Limits, quiet hours, wishes -------------------------------------------------------------------


def test_a_user_gets_no_more_than_the_limit(run: Run, providers: Providers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_NOTIFICATION_USER_LIMITS", '{"email": {"rate": 2, "per_ms": 3600000}}')
    user, other = str(uuid.uuid4()), str(uuid.uuid4())
    for job in ("j1", "j2"):
        run("email", job, **MAIL, user_id=user)
    with pytest.raises(Snooze) as postponed:
        run("email", "j3", **MAIL, user_id=user)
    assert 3_500_000 < postponed.value.delay_ms <= 3_600_000
    run("email", "j4", **MAIL, user_id=other)
    run("sms", "j5", **SMS, user_id=user)
    run("email", "j6", **MAIL, user_id=user, urgent=True)
    assert (len(providers.emails), len(providers.texts)) == (4, 1)


def test_quiet_hours_postpone(run: Run, ledger: Ledger, providers: Providers, records: Records) -> None:
    user = uuid.uuid4()
    now = datetime.now(UTC)
    clock = [(now + timedelta(hours=hours)).strftime("%H:%M") for hours in (-1, 2)]
    ledger.prefer(user, "email", quiet_from=clock[0], quiet_until=clock[1])
    with pytest.raises(Snooze) as postponed:
        run("email", "j1", **MAIL, user_id=str(user))
    assert 3_600_000 < postponed.value.delay_ms <= 7_200_000
    assert (records()[0].status, str(records()[0].error)[:11]) == ("pending", "quiet hours")
    assert run("email", "j2", **MAIL, user_id=str(user), urgent=True)["status"] == "sent"


def test_what_a_user_does_not_want_is_not_sent(run: Run, ledger: Ledger, providers: Providers) -> None:
    user = uuid.uuid4()
    ledger.prefer(user, "email", enabled=False)
    ledger.prefer(user, "email", "receipts", enabled=True)
    refused = run("email", "j1", **MAIL, user_id=str(user), category="news")
    assert (refused["status"], refused["reason"]) == ("suppressed", "unsubscribed from *")
    assert run("email", "j2", **MAIL, user_id=str(user), category="receipts")["status"] == "sent"
    assert run("email", "j3", **MAIL, user_id=str(user), category="news", required=True)["status"] == "sent"
    assert len(providers.emails) == 2


# --- What can never be sent ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel", "fields", "reason"),
    [
        ("email", {"text": "x"}, "`to` is missing; email needs an address"),
        ("email", {"to": "ada", "text": "x"}, "'ada' is no email address"),
        ("email", {"to": "ada@example.com"}, "neither a template nor a text"),
        ("email", {"to": "ada@example.com", "texxt": "x"}, "unknown field `texxt`"),
        ("email", {"to": "ada@example.com", "text": 5}, "Expected `str`, got `int`"),
        ("email", {"to": "ada@example.com", "template": "none"}, "there is no template 'none'"),
        ("email", {"to": "ada@example.com", "template": "../secret"}, "is no template's name"),
        ("email", {**MAIL, "organization_id": str(uuid.uuid4())}, "is not known"),
        ("sms", {"to": "0151 123", "text": "x"}, "is no phone number; write it as"),
        ("push", {"to": {"endpoint": "https://x"}, "text": "x"}, "no push subscription"),
        ("slack", {"to": "#general", "text": "x"}, "leave `to` out"),
    ],
)
def test_bad_input_is_dead_at_once(
    run: Run, providers: Providers, channel: str, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Reject, match=reason):
        run(channel, **fields)
    assert providers.requests == []


@pytest.mark.parametrize(
    ("channel", "variable"),
    [
        ("email", "RESEND_API_KEY"),
        ("email", "FOURLANE_EMAIL_FROM"),
        ("sms", "TWILIO_AUTH_TOKEN"),
        ("push", "FOURLANE_VAPID_PRIVATE_KEY"),
        ("slack", "FOURLANE_SLACK_WEBHOOK_URL"),
        ("pagerduty", "FOURLANE_PAGERDUTY_ROUTING_KEY"),
    ],
)
def test_without_a_key_it_is_dead_at_once(
    run: Run, providers: Providers, monkeypatch: pytest.MonkeyPatch, channel: str, variable: str
) -> None:
    monkeypatch.delenv(variable)
    to = {"email": MAIL["to"], "sms": SMS["to"], "push": providers.subscription}.get(channel)
    with pytest.raises(Reject, match=f"^{variable} is not set"):
        run(channel, text="x", **({} if to is None else {"to": to}))


def test_a_vapid_key_that_is_none_is_not_shown(run: Run, providers: Providers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_VAPID_PRIVATE_KEY", "hidden")
    with pytest.raises(Reject, match="is no VAPID key") as refused:
        run("push", to=providers.subscription, text="x")
    assert "hidden" not in str(refused.value)


def test_tasks_have_queues_of_their_own() -> None:
    names = {task.actor_name: task.service for task in deliver.TASKS.values()}
    assert names == {f"fourlane.notifications.{c}": f"notifications-{c}" for c in deliver.TASKS}
