"""Publishing: envelopes, batches, faults between boto3 and SQS, offload, order, the buffer."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from fourlane import events
from fourlane.errors import (
    BufferFull,
    EventsRefused,
    EventsUnavailable,
    EventTooLarge,
    InvalidEvent,
    InvalidName,
    NoSuchEventQueue,
)
from fourlane.events import envelope, hooks, offload
from fourlane.events.aws import Aws
from fourlane.events.buffer import Buffer
from fourlane.events.envelope import Envelope
from fourlane.events.local import LocalSqs
from fourlane.events.names import EventQueue, parse_event
from fourlane.events.provision import ensure
from fourlane.events.publisher import Publisher
from fourlane.events.reading import read
from tests.events import fault_proxy as faults
from tests.events.conftest import drain, queue_of
from tests.events.fault_proxy import FaultProxy
from tests.servers import eventually


class Signup(BaseModel):
    user: str = Field(alias="userId")
    age: int = 0


def bodies(aws: Aws, queue: EventQueue) -> list[dict[str, Any]]:
    return [json.loads(message.body) for message in drain(aws, queue)]


def test_the_envelope_is_cloudevents(aws: Aws, publisher: Publisher, queue: EventQueue, event: str) -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    published = publisher.publish(event, {"a": "ü\x00￾"}, tenant="acme", key="k", id="id-1", time=when)
    assert published.id == "id-1"
    [body] = bodies(aws, queue)
    assert body == {
        "specversion": "1.0",
        "id": "id-1",
        "source": "/tests",
        "type": f"local.events.{event}",
        "time": "2026-01-02T03:04:05.000Z",
        "datacontenttype": "application/json",
        "schemaversion": "1",
        "tenant": "acme",
        "partitionkey": "k",
        "data": {"a": "ü\x00￾"},
    }


def test_characters_that_sqs_refuses_are_escaped() -> None:
    written = envelope.write(
        parse_event("audit.x", "local"), '{"a":"￾￿"}'.encode(), environment="local", source="/s", version="1"
    )
    text = envelope.wire(written)
    assert "￾" not in text
    assert "￿" not in text
    assert json.loads(text)["data"] == {"a": "￾￿"}


def test_the_model_is_checked_at_the_call(
    aws: Aws, publisher: Publisher, queue: EventQueue, event: str, proxy: FaultProxy
) -> None:
    events.declare(event, Signup, version=3)
    with pytest.raises(InvalidEvent, match=f"{event} breaks its model Signup: userId: Field required"):
        publisher.publish(event, {"user": "ada"})
    with pytest.raises(InvalidEvent, match="age: Input should be a valid integer"):
        publisher.publish_many(event, [{"userId": "ada"}, {"userId": "bob", "age": "old"}])
    assert proxy.calls["SendMessageBatch"] == 0, "none of many is sent when one is wrong"
    publisher.publish(event, {"userId": "ada"})
    publisher.publish(event, Signup(userId="bob", age=3))
    found = sorted((b["data"]["userId"], b["data"]["age"], b["schemaversion"]) for b in bodies(aws, queue))
    assert found == [("ada", 0, "3"), ("bob", 3, "3")]


@pytest.mark.parametrize("data", [{"a": object()}, {"a": float("nan")}, {1: 2}, {"a": b"x"}])
def test_what_json_cannot_carry_is_refused(publisher: Publisher, event: str, data: Any) -> None:
    with pytest.raises(InvalidEvent, match=event):
        publisher.publish(event, data)


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"name": "billing.paid"}, InvalidName, "no category"),
        ({"time": datetime(2026, 1, 1)}, InvalidEvent, "time zone"),
        ({"time": "2026-01-01"}, InvalidEvent, "time zone"),
        ({"delay": -1}, InvalidEvent, "delay must be 0 or more"),
        ({"delay": "5"}, InvalidEvent, "delay must be 0 or more"),
        ({"delay": float("nan")}, InvalidEvent, "delay must be 0 or more"),
        ({"delay": 10**15}, InvalidEvent, "up to ten years"),
        ({"id": "a\nb"}, InvalidEvent, "no id"),
        ({"id": 5}, InvalidEvent, "no id"),
        ({"key": 5}, InvalidEvent, "key must be a text"),
        ({"tenant": 5}, InvalidName, "5 is no tenant"),
        ({"tenant": "a\nb"}, InvalidName, "is no tenant"),
    ],
)
def test_what_is_wrong_is_told_by_the_call(
    publisher: Publisher, given: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        publisher.publish(**{"name": "platform.x", "data": {}} | given)


def test_a_name_is_declared_once(publisher: Publisher) -> None:
    with pytest.raises(ValueError, match="declared already"):
        events.declare("platform.x", Signup), events.declare("platform.x", fifo=True)


def test_many_go_in_batches_of_ten(publisher: Publisher, queue: EventQueue, event: str, proxy: FaultProxy) -> None:
    published = publisher.publish_many(event, range(25), tenant="acme")
    assert len({one.id for one in published}) == 25
    assert proxy.calls["SendMessageBatch"] == 3
    assert sorted(b["data"] for b in bodies(publisher.aws, queue)) == list(range(25))


def test_batches_by_size(publisher: Publisher, queue: EventQueue, event: str, proxy: FaultProxy) -> None:
    publisher.publish_many(event, ["x" * 400_000] * 5)
    assert proxy.calls["SendMessageBatch"] == 3
    assert len(drain(publisher.aws, queue)) == 5


def test_the_failed_part_is_sent_again(
    aws: Aws, publisher: Publisher, queue: EventQueue, event: str, proxy: FaultProxy
) -> None:
    proxy.next("SendMessageBatch", faults.half_fail, times=2)
    publisher.publish_many(event, range(10))
    assert proxy.calls["SendMessageBatch"] == 3
    assert sorted(b["data"] for b in bodies(aws, queue)) == list(range(10))


def test_throttling_and_lost_replies_are_ridden_out(
    aws: Aws, publisher: Publisher, queue: EventQueue, event: str, proxy: FaultProxy
) -> None:
    publisher.aws.url(queue)
    proxy.next("SendMessageBatch", faults.refuse("ThrottlingException"), times=3)
    proxy.next("SendMessageBatch", faults.lose_reply)
    publisher.publish_many(event, range(10))
    # A lost reply means that SQS has them twice; the ids tell.
    found = bodies(aws, queue)
    assert len(found) == 20
    assert len({b["id"] for b in found}) == 10


def test_what_sqs_refuses_for_good_is_told(
    publisher: Publisher, queue: EventQueue, event: str, proxy: FaultProxy
) -> None:
    publisher.aws.url(queue)

    def refuse_second(call: faults.Call) -> tuple[int, bytes]:
        asked = call.json
        status, content = call.forward(asked | {"Entries": asked["Entries"][:1] + asked["Entries"][2:]})
        answer = json.loads(content)
        answer["Failed"] = [{"Id": "1", "SenderFault": True, "Code": "InvalidMessageContents", "Message": "no"}]
        return status, json.dumps(answer).encode()

    proxy.next("SendMessageBatch", refuse_second)
    with pytest.raises(EventsRefused, match=r"1 of 3 events were not accepted: .*InvalidMessageContents") as told:
        publisher.publish_many(event, "abc")
    assert told.value.unsent == [1]
    assert proxy.calls["SendMessageBatch"] == 1


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        ("AccessDenied", r"permission sqs:SendMessage is missing; `fourlane events provision --dry-run` prints"),
        ("InvalidClientTokenId", r"does not take these credentials .*set AWS_ACCESS_KEY_ID"),
        ("ExpiredToken", r"does not take these credentials"),
    ],
)
def test_refusals_say_what_to_do(
    publisher: Publisher, queue: EventQueue, event: str, proxy: FaultProxy, code: str, fix: str
) -> None:
    publisher.aws.url(queue)
    proxy.next("SendMessageBatch", faults.refuse(code, 403))
    with pytest.raises(EventsRefused, match=fix):
        publisher.publish(event, {})
    assert proxy.calls["SendMessageBatch"] == 1


def test_a_missing_queue_and_a_wrong_region(
    publisher: Publisher, queue: EventQueue, event: str, moto: LocalSqs
) -> None:
    with pytest.raises(NoSuchEventQueue, match=r"no such queue in the region us-east-1.*fourlane events provision"):
        publisher.publish("platform.nowhere", {})
    elsewhere = Publisher(Aws(region="eu-central-1"), environment="local", source="/tests")
    with pytest.raises(NoSuchEventQueue, match=r"region eu-central-1.*check AWS_REGION"):
        elsewhere.publish(event, {})


def test_settings_that_lack_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(EventsUnavailable, match="no region is set; set AWS_REGION"):
        Aws()
    monkeypatch.setenv("AWS_REGION", "us east")
    with pytest.raises(EventsUnavailable, match="no region; set AWS_REGION"):
        Aws().url(queue_of("platform.x"))
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(EventsUnavailable, match="no AWS credentials were found; set AWS_ACCESS_KEY_ID"):
        Aws().url(queue_of("platform.x"))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(EventsUnavailable, match=r"nobody.*set AWS_PROFILE to one that exists"):
        Aws()


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EventsUnavailable, match="is AWS_ENDPOINT_URL right") as told:
        Aws(endpoint="http://127.0.0.1:9").url(queue_of("platform.x"))
    assert told.value.passing


def test_large_data_goes_to_s3(aws: Aws, queue: EventQueue, event: str) -> None:
    aws.s3.create_bucket(Bucket="large")
    publisher = Publisher(aws, environment="local", source="/tests", bucket="large")
    publisher.publish(event, {"text": "x" * 1_048_576})
    [message] = drain(aws, queue)
    received = read(message.body)
    assert received.dataref.startswith(f"s3://large/local/events/platform/{event.split('.')[1]}/")
    assert not received.json_data
    assert json.loads(offload.fetch(aws, "large", received).json_data) == {"text": "x" * 1_048_576}

    aws.s3.put_object(Bucket="large", Key=received.dataref.removeprefix("s3://large/"), Body=b"{}")
    with pytest.raises(InvalidEvent, match="its SHA-256 differs"):
        offload.fetch(aws, "large", received)
    with pytest.raises(InvalidEvent, match="not in FOURLANE_EVENTS_BUCKET"):
        offload.fetch(aws, "other", received)
    aws.s3.delete_object(Bucket="large", Key=received.dataref.removeprefix("s3://large/"))
    with pytest.raises(InvalidEvent, match="is gone"):
        offload.fetch(aws, "large", received)


def test_the_largest_that_fits_is_sent_as_it_is(aws: Aws, publisher: Publisher, queue: EventQueue, event: str) -> None:
    around = len(envelope.wire(_empty(event, publisher)).encode()) - 2
    publisher.publish(event, "x" * (1_048_576 - around - 2))
    assert [len(m.body.encode()) for m in drain(aws, queue)] == [1_048_576]
    with pytest.raises(EventTooLarge, match=r"set FOURLANE_EVENTS_BUCKET to offload large events"):
        publisher.publish(event, "x" * (1_048_576 - around - 1))


def _empty(event: str, publisher: Publisher) -> Envelope:
    return envelope.write(parse_event(event, "local"), b'""', environment="local", source=publisher.source, version="1")


def test_a_bucket_that_is_not_there(aws: Aws, queue: EventQueue, event: str) -> None:
    publisher = Publisher(aws, environment="local", source="/tests", bucket="not-there")
    with pytest.raises(EventsUnavailable, match="no such bucket; check FOURLANE_EVENTS_BUCKET"):
        publisher.publish(event, "x" * 1_100_000)


def test_fifo_keeps_order_and_drops_repeats(aws: Aws, publisher: Publisher, event: str) -> None:
    events.declare(event, fifo=True)
    queue = queue_of(event, fifo=True)
    ensure(aws, queue)
    publisher.publish_many(event, range(25), key="one")
    for _ in range(2):
        publisher.publish(event, 25, key="one", id="same")
    found: list[int] = []
    while some := drain(aws, queue, most=1):
        found += [json.loads(m.body)["data"] for m in some]
        aws.on(
            queue,
            "delete_message_batch",
            Entries=[{"Id": str(i), "ReceiptHandle": m.handle} for i, m in enumerate(some)],
        )
    assert found == list(range(26))


def test_delays(aws: Aws, publisher: Publisher, queue: EventQueue, event: str, proxy: FaultProxy) -> None:
    seen: list[dict[str, Any]] = []

    def see(call: faults.Call) -> tuple[int, bytes]:
        seen.extend(call.json["Entries"])
        return call.forward()

    proxy.always("SendMessageBatch", see)
    publisher.publish(event, 1, delay=900)
    publisher.publish(event, 2, delay=timedelta(hours=3))
    near, far = seen
    assert near["DelaySeconds"] == 900
    assert "deliverat" not in near["MessageBody"]
    assert "DelaySeconds" not in far
    due = datetime.fromisoformat(json.loads(far["MessageBody"])["deliverat"])
    assert abs((due - datetime.now(UTC)).total_seconds() - 3 * 3600) < 60


def test_async(aws: Aws, publisher: Publisher, queue: EventQueue, event: str) -> None:
    async def both() -> None:
        await publisher.apublish(event, 1)
        await publisher.apublish_many(event, [2, 3])

    asyncio.run(both())
    assert sorted(b["data"] for b in bodies(aws, queue)) == [1, 2, 3]


def test_hooks_hear_and_give_the_trace(aws: Aws, publisher: Publisher, queue: EventQueue, event: str) -> None:
    heard: list[Any] = []

    class Trace(hooks.Hooks):
        def trace_context(self) -> tuple[str, str]:
            return "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=b"

        def published(self, queue: str, events: int, calls: int, seconds: float) -> None:
            heard.append((queue, events))
            raise RuntimeError("a hook's own error harms nobody")

    hooks.add(watching := Trace())
    try:
        publisher.publish(event, 1)
    finally:
        hooks.remove(watching)
    assert heard == [(queue.sqs_name, 1)]
    [body] = bodies(aws, queue)
    assert (body["traceparent"][:5], body["tracestate"]) == ("00-0a", "a=b")


# The buffer ---------------------------------------------------------------------------------------------------


def test_events_survive_a_time_without_sqs(
    aws: Aws, queue: EventQueue, event: str, proxy: FaultProxy, tmp_path: Path
) -> None:
    aws.url(queue)
    with Publisher(aws, environment="local", source="/t", buffer=Buffer(tmp_path, 100)) as publisher:
        assert not publisher.publish(event, 0).buffered
        proxy.always("*", faults.cut)
        assert publisher.publish(event, 1).buffered
        assert all(one.buffered for one in publisher.publish_many(event, range(2, 15)))
        proxy.always("*", None)
        eventually(lambda: publisher.buffer and not publisher.buffer.count(), 20)
    assert sorted(b["data"] for b in bodies(aws, queue)) == list(range(15))


def test_the_buffer_is_bounded_and_says_so(
    aws: Aws, queue: EventQueue, event: str, proxy: FaultProxy, tmp_path: Path
) -> None:
    aws.url(queue)
    proxy.always("*", faults.cut)
    with Publisher(aws, environment="local", source="/t", buffer=Buffer(tmp_path, 3)) as publisher:
        publisher.publish_many(event, range(3))
        with pytest.raises(BufferFull, match=r"is full \(3 events, .* was not accepted"):
            publisher.publish(event, 3)
    assert Buffer(tmp_path, 3).count() == 3


def test_what_is_buffered_outlives_the_process(
    aws: Aws, queue: EventQueue, event: str, proxy: FaultProxy, tmp_path: Path
) -> None:
    aws.url(queue)
    proxy.always("*", faults.cut)
    with Publisher(aws, environment="local", source="/t", buffer=Buffer(tmp_path, 9)) as publisher:
        publisher.publish(event, "first life")
    proxy.always("*", None)
    with Publisher(aws, environment="local", source="/t", buffer=Buffer(tmp_path, 9)) as publisher:
        eventually(lambda: publisher.buffer and not publisher.buffer.count())
    assert [b["data"] for b in bodies(aws, queue)] == ["first life"]


def test_one_that_is_refused_for_good_does_not_hold_up_those_behind_it(
    aws: Aws, queue: EventQueue, event: str, proxy: FaultProxy, tmp_path: Path
) -> None:
    """It was accepted here while SQS was away."""
    aws.url(queue)

    def refuse_bad(call: faults.Call) -> tuple[int, bytes]:
        asked = call.json
        bad = [entry for entry in asked["Entries"] if '"bad"' in entry["MessageBody"]]
        good = [entry for entry in asked["Entries"] if entry not in bad]
        status, content = call.forward(asked | {"Entries": good}) if good else (200, b'{"Successful": []}')
        failed = [{"Id": e["Id"], "SenderFault": True, "Code": "InvalidMessageContents", "Message": "no"} for e in bad]
        return status, json.dumps(json.loads(content) | {"Failed": failed}).encode()

    proxy.always("SendMessageBatch", faults.refuse("ServiceUnavailable", 503))
    with Publisher(aws, environment="local", source="/t", buffer=Buffer(tmp_path, 99)) as publisher:
        buffer = publisher.buffer
        assert buffer
        publisher.publish(event, "bad")
        publisher.publish_many(event, range(12))
        proxy.always("SendMessageBatch", refuse_bad)
        eventually(lambda: buffer.count() == 0, 30)
    assert sorted(b["data"] for b in bodies(aws, queue)) == list(range(12))
    [(kept, why)] = buffer.refused()
    assert json.loads(kept.entry["MessageBody"])["data"] == "bad"
    assert "InvalidMessageContents" in why


def test_a_batch_that_is_refused_for_one_of_its_events(
    aws: Aws, publisher: Publisher, queue: EventQueue, event: str, proxy: FaultProxy
) -> None:
    aws.url(queue)
    refuse = faults.refuse("InvalidMessageContents")
    proxy.always("SendMessageBatch", lambda call: refuse(call) if b"bad" in call.body else call.forward())
    with pytest.raises(EventsRefused, match=r"1 of 4 events were not accepted: .*made by a test") as told:
        publisher.publish_many(event, ["a", "bad", "b", "c"])
    assert told.value.unsent == [1]
    assert sorted(b["data"] for b in bodies(aws, queue)) == ["a", "b", "c"]


@pytest.mark.parametrize("where", ["data", "key", "id", "tenant", "name"])
def test_half_a_letter_is_told_as_our_error(publisher: Publisher, event: str, where: str) -> None:
    given: dict[str, Any] = {"name": event, "data": {}} | {where: event + "\ud800" if where == "name" else "a\ud800"}
    with pytest.raises((InvalidEvent, InvalidName)):
        publisher.publish(**given)


def test_a_refusal_is_not_buffered(aws: Aws, queue: EventQueue, event: str, proxy: FaultProxy, tmp_path: Path) -> None:
    aws.url(queue)
    proxy.next("SendMessageBatch", faults.refuse("AccessDenied", 403))
    with Publisher(aws, environment="local", source="/t", buffer=Buffer(tmp_path, 9)) as publisher:
        with pytest.raises(EventsUnavailable, match="permission"):
            publisher.publish(event, 1)
        assert publisher.buffer
        assert publisher.buffer.count() == 0


def test_threads_share_a_publisher(aws: Aws, publisher: Publisher, queue: EventQueue, event: str) -> None:
    threads = [threading.Thread(target=publisher.publish_many, args=(event, range(20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drain(aws, queue)) == 80
