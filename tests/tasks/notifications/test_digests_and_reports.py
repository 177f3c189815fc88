"""Digests, unsubscribing, and what providers report later; over HTTP where they come by it."""

from __future__ import annotations

import base64
import hmac
import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
import standardwebhooks
from sqlalchemy import update
from sqlalchemy.orm import Session

from fourlane import crypto
from fourlane.db.engine import Database
from fourlane.db.models import NotificationRecord, NotificationSuppression
from fourlane.db.rotate import rotate_keys
from fourlane.tasks.notifications import deliver, unsubscribe
from fourlane.tasks.notifications.ledger import Ledger
from fourlane.tasks.notifications.wsgi import from_settings
from fourlane.tasks.upkeep import maintenance
from tests.tasks.notifications.conftest import STATUS_URL, Run
from tests.tasks.notifications.standins import TOKEN, Providers

Records = Callable[[], list[NotificationRecord]]
MAIL = {"to": "ada@example.com", "subject": "Hi", "text": "Hello Ada"}
SECRET = "whsec_" + base64.b64encode(b"0" * 24).decode()


# --- Digests ---------------------------------------------------------------------------------------


@pytest.fixture
def enqueued(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the tasks enqueue."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(deliver.email, "send_with_options", lambda **options: calls.append(options))
    return calls


def test_a_digest_is_one_email(
    run: Run, providers: Providers, template: Callable[..., None], enqueued: list[dict[str, Any]], records: Records
) -> None:
    template("likes", txt="{% for i in items %}{{ i.who }} {% endfor %}", subject_txt="{{ items | length }} likes")
    fields: dict[str, Any] = {"to": "ada@example.com", "template": "likes", "digest": "likes", "digest_seconds": 60}
    for number, who in enumerate(["bob", "cy", "di"]):
        assert run("email", f"j{number}", **fields, data={"who": who})["status"] == "collected"
    run("email", "j1", **fields, data={"who": "cy"})  # killed before it was acknowledged
    run("email", "other", **fields | {"to": "eve@example.com"}, data={"who": "x"})

    first, *rest = enqueued
    assert rest[0]["kwargs"]["digest_id"] == first["kwargs"]["digest_id"]
    assert timedelta(seconds=55) < first["eta"] - datetime.now(UTC) <= timedelta(seconds=60)
    assert run("email", "d1", **first["kwargs"])["status"] == "sent"
    assert run("email", "d2", **first["kwargs"])["status"] == "suppressed"  # the one job too many
    (mail,) = providers.emails
    assert (mail["subject"], mail["text"]) == ("3 likes", "bob cy di ")
    assert sorted(record.status for record in records()) == ["collecting", "sent"]

    assert run("email", "j9", **fields, data={"who": "fay"})["status"] == "collected"
    assert enqueued[-1]["kwargs"]["digest_id"] != first["kwargs"]["digest_id"]


def test_a_digest_that_failed_is_whole_the_next_time(
    run: Run, providers: Providers, template: Callable[..., None], enqueued: list[dict[str, Any]]
) -> None:
    template("likes", txt="{% for i in items %}{{ i.who }} {% endfor %}")
    run("email", "j1", to="ada@example.com", template="likes", digest="likes", data={"who": "bob"})
    providers.fail(200, body=b"", taken=True)
    with pytest.raises(deliver.SendFailed):
        run("email", "d1", **enqueued[0]["kwargs"])
    assert run("email", "d1", **enqueued[0]["kwargs"])["status"] == "sent"
    assert [mail["text"] for mail in providers.emails] == ["bob "]


# --- Reports and unsubscribing, over HTTP ----------------------------------------------------------

Call = Callable[..., tuple[int, str]]


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def call(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    monkeypatch.setenv("FOURLANE_RESEND_WEBHOOK_SECRET", SECRET)
    pages = from_settings()
    server = make_server("127.0.0.1", 0, pages, handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()

    def request(method: str, path: str, body: str = "", **headers: str) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    yield request
    server.shutdown()
    thread.join()
    server.server_close()
    pages._ledger._database.close()


def resend_report(call: Call, kind: str, *, secret: str = SECRET, **data: Any) -> tuple[int, str]:
    body = json.dumps({"type": kind, "created_at": "2026-01-01T00:00:00Z", "data": data})
    now = datetime.now(UTC)
    signature = standardwebhooks.Webhook(secret).sign("msg_1", now, body)
    return call(
        "POST", "/resend", body, svix_id="msg_1", svix_timestamp=str(int(now.timestamp())), svix_signature=signature
    )


def test_reports_of_resend_arrive_in_any_order(run: Run, call: Call, records: Records) -> None:
    run("email", "j1", **MAIL)
    record = str(records()[0].id)
    for kind in ("email.delivered", "email.sent"):
        assert (
            resend_report(call, kind, email_id="email-1", to=[MAIL["to"]], tags={"fourlane_record": record})[0] == 200
        )
    assert records()[0].status == "delivered"
    assert run("email", "j2", **MAIL)["status"] == "sent"


@pytest.mark.parametrize(
    ("kind", "bounce", "status", "later"),
    [
        ("email.bounced", {"type": "Permanent", "message": "no such user"}, "bounced", "suppressed"),
        ("email.bounced", {"type": "Transient", "message": "full"}, "bounced", "sent"),
        ("email.complained", {}, "complained", "suppressed"),
    ],
)
def test_bounces_and_complaints(
    run: Run, call: Call, records: Records, kind: str, bounce: dict[str, str], status: str, later: str
) -> None:
    run("email", "j1", **MAIL)
    assert resend_report(call, kind, email_id="email-1", to=["Ada@Example.com"], bounce=bounce) == (200, "noted")
    assert (records()[0].status, records()[0].error) == (status, bounce.get("message"))
    assert run("email", "j2", **MAIL)["status"] == later
    assert run("email", "j3", **MAIL, required=True)["status"] == later


def test_a_report_that_is_faster_than_the_answer(run: Run, call: Call, providers: Providers, records: Records) -> None:
    providers.fail(200, body=b"", taken=True)
    with pytest.raises(deliver.SendFailed):
        run("email", **MAIL)
    tags = [{"name": "fourlane_record", "value": str(records()[0].id)}]
    resend_report(call, "email.delivered", email_id="email-1", to=[MAIL["to"]], tags=tags)
    assert run("email", attempt=2, **MAIL)["status"] == "sent"
    assert (records()[0].status, records()[0].provider_message_id) == ("delivered", "email-1")
    assert len(providers.requests) == 1


def test_a_forged_report_changes_nothing(run: Run, call: Call, records: Records) -> None:
    run("email", **MAIL)
    other = "whsec_" + base64.b64encode(b"1" * 24).decode()
    assert resend_report(call, "email.complained", secret=other, email_id="email-1", to=[MAIL["to"]])[0] == 401
    assert call("POST", "/resend", "{}")[0] == 401
    assert resend_report(call, "email.bounced", to=[])[0] == 400
    assert records()[0].status == "sent"


def twilio_report(call: Call, query: str, *, token: str = TOKEN, **form: str) -> tuple[int, str]:
    text = f"{STATUS_URL}?{query}" + "".join(f"{name}{form[name]}" for name in sorted(form))
    signature = base64.b64encode(hmac.digest(token.encode(), text.encode(), "sha1")).decode()
    kind = "application/x-www-form-urlencoded"
    return call("POST", f"/twilio?{query}", urlencode(form), x_twilio_signature=signature, content_type=kind)


def test_reports_of_twilio(run: Run, call: Call, providers: Providers, records: Records) -> None:
    sms = {"to": "+4915112345678", "text": "Hello"}
    run("sms", "j1", **sms)
    query = urlsplit(providers.texts[0]["callback"]).query
    report = {"MessageSid": "SM1", "MessageStatus": "undelivered", "ErrorCode": "30006", "To": sms["to"]}
    assert twilio_report(call, query, token="guessed", **report)[0] == 401
    assert records()[0].status == "sent"
    assert twilio_report(call, query, **report) == (200, "noted")
    assert (records()[0].status, records()[0].error) == ("bounced", "Twilio's error 30006")
    assert run("sms", "j2", **sms)["status"] == "suppressed"


@pytest.mark.parametrize("user", [None, "6f1c4c1e-8f0b-4c38-9f0e-2f7f3f6a7a10"])
def test_unsubscribing_by_the_link(run: Run, call: Call, providers: Providers, user: str | None) -> None:
    fields = MAIL | ({"user_id": user} if user else {})
    run("email", "j1", **fields, category="news")
    link = providers.emails[0]["headers"]["List-Unsubscribe"].strip("<>")
    query = urlsplit(link).query
    status, page = call("GET", f"/unsubscribe?{query}")
    assert (status, "<button>" in page) == (200, True)
    assert run("email", "j2", **fields, category="news")["status"] == "sent"  # looking is not clicking
    assert call("POST", f"/unsubscribe?{query}", "List-Unsubscribe=One-Click")[0] == 200
    assert run("email", "j3", **fields, category="news")["status"] == "suppressed"
    assert run("email", "j4", **fields, category="receipts")["status"] == "sent"
    assert run("email", "j5", **fields, category="news", required=True)["status"] == "sent"
    assert "List-Unsubscribe" not in (providers.emails[-1].get("headers") or {})


def test_a_link_that_was_changed(run: Run, call: Call, providers: Providers) -> None:
    run("email", **MAIL)
    link = providers.emails[0]["headers"]["List-Unsubscribe"].strip("<>")
    token = link.partition("token=")[2]
    body, _, seal = token.partition(".")
    forged = base64.urlsafe_b64encode(b'["email","general","","bob@example.com"]').decode().rstrip("=")
    for wrong in ("", "x", f"{forged}.{seal}", body, f"{body}.{'0' * 32}", "ä.ä"):
        with pytest.raises(unsubscribe.InvalidLink):
            unsubscribe.read(wrong)
    assert call("POST", f"/unsubscribe?token={forged}.{seal}")[0] == 400
    assert run("email", "j2", **MAIL | {"to": "bob@example.com"})["status"] == "sent"


def test_an_address_may_be_allowed_again(run: Run, ledger: Ledger) -> None:
    ledger.suppress("email", "Ada@example.com", reason="bounce")
    ledger.suppress("email", "ada@example.com", reason="complaint")
    assert run("email", "j1", **MAIL)["reason"] == "the address is suppressed: complaint"
    assert ledger.allow("email", "ADA@example.com") == 1
    assert run("email", "j2", **MAIL)["status"] == "sent"


def test_old_records_are_forgotten(run: Run, ledger: Ledger, records: Records) -> None:
    run("email", **MAIL)
    assert ledger.forget(datetime.now(UTC) - timedelta(days=1)) == 0
    assert ledger.forget(datetime.now(UTC) + timedelta(seconds=5)) == 1
    assert records() == []


def test_housekeeping_forgets_and_gives_up(
    run: Run, ledger: Ledger, records: Records, database: Database, providers: Providers
) -> None:
    for job in ("old", "new"):
        run("email", job, **MAIL)
    providers.fail(200, body=b"")
    with pytest.raises(deliver.SendFailed):
        run("email", "lost", **MAIL)
    with database.begin() as session:
        age(session, "old", created_at=timedelta(days=91))
        age(session, "new", created_at=timedelta(days=89))
        age(session, "lost", updated_at=timedelta(hours=25))
    maintenance.tidy_notifications()
    assert sorted((record.job_id, record.status) for record in records()) == [("lost", "unclear"), ("new", "sent")]


def age(session: Session, job: str, **ages: timedelta) -> None:
    moments = {column: datetime.now(UTC) - age for column, age in ages.items()}
    session.execute(update(NotificationRecord).where(NotificationRecord.job_id == job).values(moments))


def test_housekeeping_without_a_database_does_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_root: Callable[[], None]
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("FOURLANE_DATA_DIR", str(tmp_path / "none"))
    maintenance.tidy_notifications()
    assert not (tmp_path / "none").exists()
    own_root()
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/of-others.db")
    maintenance.tidy_notifications()


def test_a_rotated_key_may_be_dropped_and_dead_addresses_stay_dead(
    run: Run, ledger: Ledger, database: Database
) -> None:
    new = crypto.new_key()
    ledger.suppress("email", "ada@example.com", reason="bounce")
    ledger.suppress("email", "bob@example.com", reason="complaint")
    crypto.configure(crypto.Keyring([new]))
    ledger.suppress("email", "bob@example.com", reason="bounce")  # by a process that lacks the old key
    crypto.configure(crypto.Keyring([new, os.environ["FOURLANE_ENCRYPTION_KEYS"]]))
    assert rotate_keys(database)["notification_suppressions.address_mark"] == 2
    assert rotate_keys(database)["notification_suppressions.address_mark"] == 0
    crypto.configure(crypto.Keyring([new]))
    with database.begin() as session:
        assert sorted(row.address for row in session.query(NotificationSuppression)) == [
            "ada@example.com",
            "bob@example.com",
        ]
    assert ledger.allow("email", "ada@example.com") == 1
    assert ledger.allow("email", "bob@example.com") == 1
