"""The stream ``notification-events``: from a published event to a mailbox, by a real worker and moto's SQS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from fourlane.db.models import NotificationRecord
from fourlane.events.local import REGION, LocalSqs
from fourlane.tasks.notifications.ledger import Ledger
from tests.command import Command
from tests.servers import eventually
from tests.tasks.notifications.standins import Providers

MODULE = "fourlane.tasks.notifications.stream"


@pytest.fixture
def aws(command: Command) -> Iterator[None]:
    with LocalSqs() as server:
        command.env |= {"AWS_ENDPOINT_URL": server.endpoint, "AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}
        command.env |= {"AWS_ACCESS_KEY_ID": server.keys[0], "AWS_SECRET_ACCESS_KEY": server.keys[1]}
        yield


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
def test_an_event_is_sent_once_and_a_bad_one_is_buried(
    aws: None,
    command: Command,
    ledger: Ledger,
    providers: Providers,
    records: Callable[[], list[NotificationRecord]],
) -> None:
    command.start("worker", MODULE)
    events = [
        ("notification.email", {"to": "ada@example.com", "subject": "Hi", "text": "Hello", "dedup_key": "hello"}),
        ("notification.email", {"to": "ada@example.com", "subject": "Hi", "text": "Hello", "dedup_key": "hello"}),
        ("notification.sms", {"to": "+4915112345678", "text": "Hello"}),
        ("notification.sms", {"to": "0151", "text": "Hello"}),
    ]
    for name, data in events:
        done = command("events", "publish", name, json.dumps(data), "--module", MODULE)
        assert done.returncode == 0, done.stderr
    eventually(lambda: len(records()) == 2 and all(record.status == "sent" for record in records()), 40)
    assert (len(providers.emails), len(providers.texts)) == (1, 1)
    dead = eventually(lambda: json.loads(command("dead", "list", "--json").stdout or "[]"), 20)
    assert "'0151' is no phone number" in json.dumps(dead)
