"""Webhooks that are passed on to a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fourlane.errors import InvalidName
from fourlane.events import default
from fourlane.events.aws import Aws
from fourlane.events.names import EventQueue
from fourlane.events.publisher import Publisher
from fourlane.queues.broker import RedisBroker
from fourlane.webhooks import forward_webhook, handlers
from tests.events.conftest import drain


def test_a_webhook_on_a_stream(
    monkeypatch: pytest.MonkeyPatch,
    broker: RedisBroker,
    aws: Aws,
    publisher: Publisher,
    queue: EventQueue,
    event: str,
) -> None:
    monkeypatch.setattr(handlers, "_handlers", [])
    monkeypatch.setattr(default, "default_publisher", lambda: publisher)
    made = forward_webhook("stripe", "charge.*", event, broker=broker)
    assert handlers.handlers_of("stripe", "charge.succeeded") == [made]
    given: dict[str, Any] = {
        "provider": "stripe",
        "id": "evt_1",
        "type": "charge.succeeded",
        "created_at_ms": 1_768_726_800_000,
        "subject": "ch_1",
        "payload": {"amount": 1999},
    }
    made.fn(given)
    [body] = [json.loads(message.body) for message in drain(aws, queue)]
    assert (body["id"], body["time"]) == ("stripe:evt_1", "2026-01-18T09:00:00.000Z")
    assert body["data"] == {
        "provider": "stripe",
        "id": "evt_1",
        "type": "charge.succeeded",
        "payload": {"amount": 1999},
    }


def test_a_stream_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "_handlers", [])
    with pytest.raises(InvalidName):
        forward_webhook("stripe", "charge.*", "payments")
    assert handlers._handlers == []
