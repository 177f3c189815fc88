"""What others publish as CloudEvents 1.0 JSON, and what is none."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

import fourlane
from fourlane.errors import InvalidEvent
from fourlane.events.aws import Aws
from fourlane.events.envelope import Event
from fourlane.events.names import EventQueue, parse_event
from fourlane.events.reading import read
from fourlane.queues.broker import RedisBroker
from tests.events.conftest import Receive, drain
from tests.servers import eventually
from tests.worker.conftest import RunWorker

LEAST = {"specversion": "1.0", "id": "1", "source": "https://shop.example/orders", "type": "local.events.platform.x"}
SENT = datetime(2026, 11, 28, 12, 0, 0, 250_000, tzinfo=UTC)
SENT_MS = round(SENT.timestamp() * 1000)


def base64_of(data: str) -> str:
    return base64.b64encode(data.encode()).decode()


@pytest.mark.parametrize(
    ("more", "data", "time"),
    [
        ({}, None, SENT),
        ({"data": {"a": 1}}, {"a": 1}, SENT),
        ({"data": None}, None, SENT),
        ({"data": "text", "datacontenttype": None, "time": None, "subject": None}, "text", SENT),
        ({"data": 1, "datacontenttype": "application/json; charset=utf-8"}, 1, SENT),
        ({"data": 1, "datacontenttype": "application/vnd.shop.v2+json"}, 1, SENT),
        ({"data": 1, "datacontenttype": "Text/JSON"}, 1, SENT),
        ({"data_base64": base64_of('{"a": [1]}'), "datacontenttype": "application/json"}, {"a": [1]}, SENT),
        ({"data": 1, "time": "2026-01-02T03:04:05Z"}, 1, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ({"time": "2026-01-02T03:04:05.123456789+01:00"}, None, datetime(2026, 1, 2, 2, 4, 5, 123_000, tzinfo=UTC)),
        ({"time": "1815-12-10T00:00:00Z"}, None, datetime(1815, 12, 10, tzinfo=UTC)),
        ({"comexampleother": 5, "sequence": {"deep": []}}, None, SENT),
    ],
)
def test_what_others_publish(more: dict[str, Any], data: Any, time: datetime) -> None:
    received = read(json.dumps(LEAST | more), SENT_MS)
    event = Event.of(received, parse_event("platform.x", "local"))
    assert (event.data, event.time, event.source) == (data, time, LEAST["source"])


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"id": None}, "Expected `str`, got `null`"),
        ({"data": 1, "data_base64": "MQ=="}, "both data and data_base64"),
        ({"data_base64": "no base64"}, "data_base64 cannot be read as JSON"),
        ({"data_base64": base64_of("[1")}, "data_base64 cannot be read as JSON"),
        ({"data_base64": "/w=="}, "data_base64 cannot be read as JSON"),
        ({"data": "<a/>", "datacontenttype": "application/xml"}, "cannot be read, only application/json"),
        ({"time": "0001-01-01T00:00:00+14:00"}, "no RFC 3339 time"),
        ({"time": "9999-12-31T23:59:59-01:00"}, "no RFC 3339 time"),
        ({"deliverat": "9000-01-01T00:00:00Z"}, "over ten years away"),
        ({"tenant": "a|b\x00"}, "the envelope's tenant"),
        ({"id": "\ud800"}, "no CloudEvents 1.0 JSON"),
        ("{" * 100_000, "no CloudEvents 1.0 JSON"),
        ("\ud800", "no CloudEvents 1.0 JSON"),
    ],
)
def test_what_is_none(body: Any, why: str) -> None:
    with pytest.raises(InvalidEvent, match=why):
        read(body if isinstance(body, str) else json.dumps(LEAST | body), SENT_MS)


@pytest.mark.parametrize("through", ["direct", "queue"])
def test_the_least_that_others_publish_is_handled(
    aws: Aws, broker: RedisBroker, queue: EventQueue, event: str, run_receivers: Receive, run_worker: RunWorker,
    through: Any,
) -> None:  # fmt: skip
    got: list[Event] = []
    fourlane.on_event(event, through=through)(got.append)
    before = datetime.now(UTC).replace(microsecond=0)
    least = LEAST | {"type": f"local.events.{event}", "subject": None, "data_base64": base64_of("[1]")}
    aws.on(queue, "send_message", MessageBody=json.dumps(least))
    run_receivers(broker, direct=through == "direct")
    run_worker(broker)
    [handled] = eventually(lambda: got)
    assert handled.data == [1]
    assert before <= handled.time <= datetime.now(UTC)
    assert not drain(aws, queue.dead_letters)
