"""Rows from before notifications had tenants."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text

from fourlane import crypto
from fourlane.db import migrate
from fourlane.db.engine import Database, open_database
from fourlane.tasks.notifications.ledger import Ledger
from fourlane.tasks.notifications.notification import Notification
from fourlane.tasks.notifications.records import Order, digest_key, item_key, key_of

MAIL = {"to": "carol@example.com"}
A, B = (uuid.UUID(int=number << 64) for number in (0xA, 0xB))


def test_rows_from_before_go_on_working(database_url: str) -> None:
    """A dedup key, a digest that is open, a wish and a dead address of before there were tenants."""
    crypto.configure(crypto.Keyring([crypto.new_key()]))
    database = open_database(database_url)
    files = migrate.load(database.dialect)
    own = next(n for n, file in enumerate(files) if file.description == "notification_tenants")
    migrate.migrate(database, files[:own])
    plain = Order(channel="email", notification=Notification(to=MAIL["to"], dedup_key="k", digest="d"), job_id="j")
    _insert_from_before(database, plain)
    migrate.migrate(database, files)
    assert migrate.check(database) == []

    of_a = Order(
        channel="email",
        notification=Notification(to=MAIL["to"], template="x", dedup_key="k", digest="d", organization_id=A, user_id=B),
        job_id="other",
        tenant=str(A),
    )
    ledger = Ledger(database, {})
    assert ledger.decide(of_a, now=datetime.now(UTC)).status == "duplicate"
    collected = ledger.digests.collect(of_a)
    assert (collected.is_first, collected.is_new) == (False, False)
    with database.begin() as session:
        # It held for all organizations, and does so still.
        [wish] = ledger.preferences(session, of_a)
        assert (wish.enabled, wish.tenant, wish.organization_id) == (False, "", B)
        found = dict(session.execute(text("SELECT channel, reason FROM notification_suppressions")).all())
        assert found == {"sms": "stop", "email": "bounce"}
    migrate.rollback(database, 1)
    assert migrate.migrate(database, files)
    assert migrate.check(database) == []
    database.close()
    crypto.configure(None)


def _insert_from_before(database: Database, order: Order) -> None:
    def of(key: uuid.UUID) -> str:
        return key.hex if database.dialect == "sqlite" else str(key)

    sent, opened, user = uuid.uuid4(), uuid.uuid4(), B
    sealed = crypto.keyring().encrypt(b"{}", "notification_digest_items.data")
    rows: list[tuple[str, dict[str, Any]]] = [
        *(("organizations", {"id": of(whose), "name": "x"}) for whose in (A, B)),
        *(
            (
                "notification_records",
                {"id": of(key), "organization_id": of(A), "channel": "email", "status": status}
                | {"idempotency_key": own, "job_id": "before"},
            )
            for key, status, own in ((sent, "sent", key_of(order)), (opened, "collecting", digest_key(order)))
        ),
        (
            "notification_digest_items",
            {"id": of(uuid.uuid4()), "record_id": of(opened), "item_key": item_key(order), "data": sealed},
        ),
        (
            "notification_preferences",
            {
                "id": of(uuid.uuid4()),
                "organization_id": of(B),
                "user_id": of(user),
                "channel": "email",
                "enabled": False,
            },
        ),
        *(
            (
                "notification_suppressions",
                {"id": of(uuid.uuid4()), "channel": channel, "address_mark": "m", "address": b"x"}
                | {"reason": "bounce", "detail": detail},
            )
            for channel, detail in (("sms", "Twilio's error 21610"), ("email", "no such user"))
        ),
    ]
    with database.engine.begin() as connection:
        for table, row in rows:
            names = ", ".join(row)
            connection.execute(text(f"INSERT INTO {table} ({names}) VALUES (:{', :'.join(row)})"), row)
