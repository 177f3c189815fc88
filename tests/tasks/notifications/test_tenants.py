"""Organizations are strangers to each other, though their keys, addresses and names be the same."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fourlane.db.engine import Database
from fourlane.db.models import NotificationRecord, Organization
from fourlane.errors import Reject, Snooze
from fourlane.tasks.notifications import deliver, unsubscribe
from fourlane.tasks.notifications.digests import Digests
from fourlane.tasks.notifications.ledger import Ledger
from fourlane.tasks.notifications.notification import Notification
from fourlane.tasks.notifications.records import Order
from tests.tasks.notifications.conftest import Run
from tests.tasks.notifications.standins import Providers

Records = Callable[[], list[NotificationRecord]]
MAIL = {"to": "carol@example.com", "subject": "Hi", "text": "Hello"}
A, B = (uuid.UUID(int=number << 64) for number in (0xA, 0xB))


@pytest.fixture(autouse=True)
def organizations(database: Database) -> None:
    with database.begin() as session:
        session.add_all([Organization(id=A, name="A"), Organization(id=B, name="B")])


def test_a_dedup_key_is_an_organizations_own(run: Run, providers: Providers) -> None:
    for number, whose in enumerate([{"organization_id": str(A)}, {"organization_id": str(B)}, {}]):
        assert run("email", f"j{number}", **MAIL, **whose, dedup_key="welcome")["status"] == "sent"
    assert run("email", "j9", **MAIL, organization_id=str(B), dedup_key="welcome")["status"] == "duplicate"
    # A tenant may be no organization of the database.
    for tenant in ("acme", "umbra"):
        assert run("email", f"{tenant}-1", tenant=tenant, **MAIL, dedup_key="welcome")["status"] == "sent"
        assert run("email", f"{tenant}-2", tenant=tenant, **MAIL, dedup_key="welcome")["status"] == "duplicate"
    assert len(providers.emails) == 5


def test_a_tenants_job_speaks_for_nobody_else(run: Run, providers: Providers) -> None:
    with pytest.raises(Reject, match="the job is on behalf of"):
        run("email", "j1", tenant=str(A), **MAIL, organization_id=str(B), dedup_key="welcome")
    assert run("email", "j2", tenant=str(B), **MAIL, organization_id=str(B), dedup_key="welcome")["status"] == "sent"
    assert len(providers.emails) == 1


@pytest.fixture
def enqueued(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the tasks enqueue."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(deliver.email, "send_with_options", lambda **options: calls.append(options))
    return calls


def test_a_digest_is_an_organizations_own(
    run: Run, providers: Providers, template: Callable[..., None], enqueued: list[dict[str, Any]], records: Records
) -> None:
    template("of-a", txt="A: {% for i in items %}{{ i.from }} {% endfor %}")
    template("of-b", txt="B: {% for i in items %}{{ i.from }} {% endfor %}")
    for whose, name in ((A, "of-a"), (B, "of-b")):
        fields = {"to": MAIL["to"], "template": name, "digest": "daily", "organization_id": str(whose)}
        for item in ("1", "2"):
            data = {"from": f"{name}-{item}"}
            assert run("email", f"{name}-{item}", **fields, data=data, dedup_key=item)["status"] == "collected"
    assert [(one["kwargs"]["organization_id"], one["tenant"]) for one in enqueued] == [
        (str(A), str(A)),
        (str(B), str(B)),
    ]
    # Not even by its id may one be had by another.
    stolen = enqueued[1]["kwargs"] | {"organization_id": str(A)}
    assert run("email", "thief", **stolen)["status"] == "suppressed"
    for number, one in enumerate(enqueued):
        assert run("email", f"d{number}", **one["kwargs"])["status"] == "sent"
    assert [mail["text"] for mail in providers.emails] == ["A: of-a-1 of-a-2 ", "B: of-b-1 of-b-2 "]
    assert {(record.organization_id, record.status) for record in records()} == {(A, "sent"), (B, "sent")}


def test_digests_of_two_organizations_at_once(database: Database) -> None:
    digests, barrier, errors = Digests(database), threading.Barrier(4), []

    def collect(whose: uuid.UUID, number: int) -> None:
        barrier.wait()
        notification = Notification(to=MAIL["to"], template="x", digest="d", data={"n": number}, organization_id=whose)
        for turn in range(5):
            try:
                digests.collect(
                    Order(channel="email", notification=notification, job_id=f"{number}-{turn}", tenant=str(whose))
                )
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=collect, args=(whose, n)) for n, whose in enumerate([A, B, A, B])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with database.begin() as session:
        found = {record.organization_id: record.id for record in session.query(NotificationRecord)}
    assert {whose: {item["n"] for item in digests.close(found[whose], tenant=str(whose))} for whose in (A, B)} == {
        A: {0, 2},
        B: {1, 3},
    }


def test_two_jobs_of_one_digest_do_not_send_it_both(ledger: Ledger, database: Database) -> None:
    notification = Notification(to=MAIL["to"], template="x", digest="d", organization_id=A)
    order = Order(channel="email", notification=notification, job_id="j", tenant=str(A), provider="smtp")
    record_id = ledger.digests.collect(order).record_id
    ledger.digests.close(record_id, tenant=str(A))
    barrier, verdicts = threading.Barrier(2), []

    def decide(job: str) -> None:
        barrier.wait()
        one = Order(
            channel="email", notification=notification, job_id=job, tenant=str(A), provider="smtp", record_id=record_id
        )
        verdicts.append(ledger.decide(one, now=datetime.now(UTC)).verdict)

    threads = [threading.Thread(target=decide, args=(job,)) for job in ("d1", "d2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(verdicts) == ["go", "over"]


def test_the_users_limit_is_an_organizations_own(
    run: Run, providers: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOURLANE_NOTIFICATION_USER_LIMITS", '{"email": {"rate": 1, "per_ms": 3600000}}')
    user = str(uuid.uuid4())
    run("email", "j1", **MAIL, user_id=user, organization_id=str(A))
    with pytest.raises(Snooze):
        run("email", "j2", **MAIL, user_id=user, organization_id=str(A))
    assert run("email", "j3", **MAIL, user_id=user, organization_id=str(B))["status"] == "sent"


@pytest.mark.parametrize("user", [None, "6f1c4c1e-8f0b-4c38-9f0e-2f7f3f6a7a10"])
def test_unsubscribing_silences_one_organization(
    run: Run, ledger: Ledger, providers: Providers, user: str | None
) -> None:
    fields = MAIL | ({"user_id": user} if user else {})
    run("email", "j1", **fields, organization_id=str(A))
    query = urlsplit(providers.emails[0]["headers"]["List-Unsubscribe"].strip("<>")).query
    wish = unsubscribe.read(parse_qs(query)["token"][0])
    assert wish.tenant == str(A)
    ledger.unsubscribe(wish.channel, wish.category, user_id=wish.user_id, address=wish.address, tenant=wish.tenant)
    assert run("email", "j2", **fields, organization_id=str(A))["status"] == "suppressed"
    assert run("email", "j3", **fields, organization_id=str(B))["status"] == "sent"
    assert run("email", "j4", **fields)["status"] == "sent"


def test_a_wish_for_all_and_one_for_an_organization(run: Run, ledger: Ledger) -> None:
    user = uuid.uuid4()
    ledger.prefer(str(user), "email", enabled=False)
    ledger.prefer(user, "email", organization_id=B, enabled=True)
    with pytest.raises(ValueError, match="UUID"):
        ledger.prefer("ada", "email")
    assert run("email", "j1", **MAIL, user_id=str(user), organization_id=str(A))["status"] == "suppressed"
    assert run("email", "j2", **MAIL, user_id=str(user), organization_id=str(B))["status"] == "sent"
    hours = [(datetime.now(UTC) + timedelta(hours=hours)).strftime("%H:%M") for hours in (-1, 2)]
    ledger.prefer(user, "email", organization_id=B, quiet_from=hours[0], quiet_until=hours[1])
    with pytest.raises(Snooze):
        run("email", "j3", **MAIL, user_id=str(user), organization_id=str(B))


def test_a_complaint_is_about_one_organization_and_a_bounce_about_the_address(run: Run, ledger: Ledger) -> None:
    ledger.suppress("email", MAIL["to"], reason="complaint", tenant=str(A))
    assert run("email", "j1", **MAIL, organization_id=str(A))["status"] == "suppressed"
    assert run("email", "j2", **MAIL, organization_id=str(B))["status"] == "sent"
    ledger.suppress("email", MAIL["to"], reason="bounce")
    assert run("email", "j3", **MAIL, organization_id=str(B))["status"] == "suppressed"
    assert ledger.allow("email", MAIL["to"], tenant=str(A)) == 1
    assert ledger.allow("email", MAIL["to"]) == 1
