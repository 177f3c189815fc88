from __future__ import annotations

from collections.abc import Iterator

import pytest

from fourlane import crypto
from fourlane.crypto import Keyring, new_key
from fourlane.db import rotate
from fourlane.db.engine import Database
from fourlane.db.models import SecurityEvent, WebhookEndpoint
from fourlane.db.rotate import rotate_keys
from fourlane.errors import EncryptionError

OLD, NEW = new_key(), new_key()


@pytest.fixture(autouse=True)
def no_keys() -> Iterator[None]:
    yield
    crypto.configure(None)


def test_all_is_encrypted_anew(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotate, "_ROWS", 3)
    crypto.configure(Keyring([OLD]))
    with database.begin() as session:
        for n in range(7):
            session.add(WebhookEndpoint(url="https://example.org", secret=f"old {n}"))
        session.add(SecurityEvent(kind="x", severity="info", ip_address="192.0.2.1"))
        session.add(SecurityEvent(kind="x", severity="info"))
    crypto.configure(Keyring([NEW, OLD]))
    with database.begin() as session:
        session.add(WebhookEndpoint(url="https://example.org", secret="new"))
    rotated = {column: count for column, count in rotate_keys(database).items() if count}
    assert rotated == {"webhook_endpoints.secret": 7, "security_events.ip_address": 1}
    assert not any(rotate_keys(database).values())
    crypto.configure(Keyring([NEW]))
    with database.begin() as session:
        secrets = sorted(endpoint.secret for endpoint in session.query(WebhookEndpoint))
        assert secrets == ["new", *(f"old {n}" for n in range(7))]
        assert {event.ip_address for event in session.query(SecurityEvent)} == {"192.0.2.1", None}


def test_a_missing_key_is_named(database: Database) -> None:
    crypto.configure(Keyring([OLD]))
    with database.begin() as session:
        session.add(WebhookEndpoint(url="https://example.org", secret="s"))
    crypto.configure(Keyring([NEW]))
    with pytest.raises(EncryptionError, match=r"webhook_endpoints.secret: was encrypted with the key"):
        rotate_keys(database)
