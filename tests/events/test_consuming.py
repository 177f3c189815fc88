"""Events through the Redis queues: receive, make jobs, delete; each handled once, none lost, poison buried."""

from __future__ import annotations

import json
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import dramatiq
import pytest
import redis
from pydantic import BaseModel

import fourlane
from fourlane import codec, events
from fourlane.errors import RedisUnavailable
from fourlane.events import catalogue, hooks, messages, setup
from fourlane.events.aws import Aws
from fourlane.events.current import current_event
from fourlane.events.envelope import Event
from fourlane.events.mover import Mover
from fourlane.events.names import EventQueue
from fourlane.events.publisher import Publisher
from fourlane.events.starter import way_of
from fourlane.events.tries import NONE, POISON, Tries
from fourlane.queues import browse, dead_letters, taken
from fourlane.queues.broker import RedisBroker
from fourlane.queues.claims import Claim, Claims
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.store import Store
from fourlane.queues.taken import Accepting, accept
from tests.events import fault_proxy as faults
from tests.events.conftest import Receive, drain, queue_of
from tests.events.fault_proxy import FaultProxy
from tests.servers import Server, eventually
from tests.worker.conftest import RunWorker


class Signup(BaseModel):
    user: str
    at: datetime


class Seen:
    """What handlers saw, from any thread."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def data(self) -> list[Any]:
        return sorted(event.data for event in self.events)


@pytest.fixture
def seen() -> Seen:
    return Seen()


def in_sqs(aws: Aws, queue: EventQueue) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = aws.on(queue, "get_queue_attributes", AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)


def handle(event: str, seen: Seen, **options: Any) -> Any:
    @fourlane.on_event(event, **options)
    def handler(given: Event) -> None:
        seen.events.append(given)

    return handler


# The main flow ------------------------------------------------------------------------------------------------


def test_from_publisher_to_handler(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen,
    run_receivers: Receive, run_worker: RunWorker,
) -> None:  # fmt: skip
    events.declare(event, Signup)
    handle(event, seen, tier="P0", service="mail")
    run_receivers(broker)
    run_worker(broker, "mail")
    at = datetime(2026, 1, 2, tzinfo=UTC)
    publisher.publish(event, {"user": "ada", "at": at}, tenant="acme", key="k", id="id-1")
    eventually(lambda: seen.events)
    [got] = seen.events
    assert (got.id, got.name, got.source, got.tenant, got.key) == ("id-1", event, "/tests", "acme", "k")
    assert got.data == Signup(user="ada", at=at)
    eventually(lambda: in_sqs(aws, queue) == 0)


def test_every_handler_gets_it(
    broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, run_receivers: Receive,
    run_worker: RunWorker,
) -> None:  # fmt: skip
    calls: list[str] = []

    @fourlane.on_event(event, service="one")
    def first(given: Event) -> None:
        calls.append("first")

    @fourlane.on_event(event, service="two", tier="P2")
    async def second(given: Event) -> None:
        calls.append("second")
        assert current_event() == given

    run_receivers(broker)
    run_worker(broker, "one", "two")
    publisher.publish_many(event, range(20))
    eventually(lambda: len(calls) == 40)
    assert sorted(set(calls)) == ["first", "second"]


def test_the_job_is_a_job_like_every_other(
    broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, run_receivers: Receive,
    run_worker: RunWorker,
) -> None:  # fmt: skip
    tries: list[int] = []

    @fourlane.on_event(event, max_retries=1, backoff=fourlane.Backoff(min_ms=10, max_ms=10))
    def fails(given: Event) -> None:
        job = fourlane.current_job()
        assert job
        tries.append(job.attempt)
        raise RuntimeError("no")

    run_receivers(broker)
    run_worker(broker)
    publisher.publish(event, 1, id="11111111-1111-1111-1111-111111111111")
    letters = eventually(lambda: dead_letters.find(broker.store, dead_letters.Filter(), "", 10).letters)
    assert tries == [1, 2]
    assert letters[0].task == f"on {event}: fails"
    assert letters[0].id == f"11111111-1111-1111-1111-111111111111:on {event}: fails"


def test_a_handler_publishes_on_with_the_same_trace(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, run_receivers: Receive,
    run_worker: RunWorker,
) -> None:  # fmt: skip
    after = queue_of(event + "-after")
    from fourlane.events.provision import ensure

    ensure(aws, after)

    @fourlane.on_event(event)
    def on(given: Event) -> None:
        publisher.publish(event + "-after", {})

    class Trace(hooks.Hooks):
        def trace_context(self) -> tuple[str, str]:
            return ("", "") if current_event() else ("00-11", "")

    hooks.add(watching := Trace())
    try:
        run_receivers(broker)
        run_worker(broker)
        publisher.publish(event, {})
        [message] = eventually(lambda: drain(aws, after))
    finally:
        hooks.remove(watching)
    assert json.loads(message.body)["traceparent"] == "00-11"


def test_large_data_reaches_the_handler(
    aws: Aws, broker: RedisBroker, queue: EventQueue, event: str, seen: Seen, run_receivers: Receive,
    run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(setup, "large_data", lambda of: (aws, "big"))
    aws.s3.create_bucket(Bucket="big")
    handle(event, seen)
    run_receivers(broker)
    run_worker(broker)
    with Publisher(aws, environment="local", source="/t", bucket="big") as large:
        large.publish(event, "x" * 1_100_000)
    eventually(lambda: seen.events)
    assert seen.events[0].data == "x" * 1_100_000


def test_long_delays_are_handed_to_redis(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen,
    run_receivers: Receive, run_worker: RunWorker,
) -> None:  # fmt: skip
    handle(event, seen)
    run_receivers(broker)
    publisher.publish(event, "late", delay=timedelta(hours=2))
    [due] = eventually(lambda: _delayed(broker))
    assert abs(due / 1000 - time.time() - 7_200) < 60
    eventually(lambda: in_sqs(aws, queue) == 0)
    assert not seen.events
    key = broker.store.service("default").delayed  # let the time pass
    [(member, _)] = broker.client.zrange(key, 0, -1, withscores=True)
    broker.client.zadd(key, {member: 1})
    run_worker(broker)
    eventually(lambda: seen.data() == ["late"])


def _delayed(broker: RedisBroker) -> list[float]:
    found = broker.client.zrange(broker.store.service("default").delayed, 0, -1, withscores=True)
    return [float(score) for _, score in found]


def test_receivers_follow_the_load(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen,
    run_receivers: Receive, proxy: FaultProxy,
) -> None:  # fmt: skip
    handle(event, seen)
    publisher.publish_many(event, range(60))
    hold = threading.Event()

    def slow(call: faults.Call) -> tuple[int, bytes]:
        hold.wait(10)
        return call.forward()

    proxy.always("DeleteMessageBatch", slow)
    receivers = run_receivers(broker)
    eventually(lambda: receivers.threads(queue) == 3)
    hold.set()
    eventually(lambda: receivers.threads(queue) == 1)
    assert len(browse_ids(broker)) == 60


def browse_ids(broker: RedisBroker) -> list[bytes]:
    keys = broker.store.service("default")
    found: list[bytes] = broker.client.lrange(keys.ready[1], 0, -1)
    return found


# Once, though SQS delivers twice ------------------------------------------------------------------------------


def test_duplicates_are_handled_once(
    broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen, proxy: FaultProxy,
    run_receivers: Receive, run_worker: RunWorker,
) -> None:  # fmt: skip
    heard: list[tuple[int, int]] = []

    class Count(hooks.Hooks):
        def accepted(self, queue: str, jobs: int, known: int) -> None:
            heard.append((jobs, known))

    hooks.add(watching := Count())
    try:
        proxy.always("ReceiveMessage", faults.twice)  # in one batch
        proxy.next("DeleteMessageBatch", faults.refuse("InternalFailure", 500), times=9)  # and again later
        handle(event, seen)
        run_receivers(broker, visibility_seconds=1)
        run_worker(broker)
        for number in range(4):
            publisher.publish(event, number, id=f"e{number}")
        eventually(lambda: len(seen.events) == 4)
        publisher.publish(event, 0, id="e0")  # and a publisher that repeats itself, once all are done
        eventually(lambda: sum(known for _, known in heard) >= 9, 20)
    finally:
        hooks.remove(watching)
    assert seen.data() == [0, 1, 2, 3]


def test_visibility_that_ran_out_before_the_delete(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen, proxy: FaultProxy,
    run_receivers: Receive, run_worker: RunWorker,
) -> None:  # fmt: skip
    def too_late(call: faults.Call) -> tuple[int, bytes]:
        time.sleep(1.5)
        return call.forward()

    proxy.next("DeleteMessageBatch", too_late)
    handle(event, seen)
    run_receivers(broker, visibility_seconds=1)
    run_worker(broker)
    publisher.publish_many(event, range(5))
    eventually(lambda: len(seen.events) == 5)
    eventually(lambda: in_sqs(aws, queue) == 0)
    assert seen.data() == [0, 1, 2, 3, 4]


def test_the_same_event_for_another_handler_is_another_job(broker: RedisBroker, event: str, seen: Seen) -> None:
    from fourlane.events import envelope
    from fourlane.events.handlers import job_id

    handle(event, seen, task_name="one")
    handle(event, seen, task_name="x" * 190)
    first, second = catalogue.handlers()[queue_of(event).event]
    written = envelope.write(
        queue_of(event).event, b"1", environment="local", source="/s", version="1", id="a|b\u2028"[:3]
    )
    other = envelope.write(queue_of(event).event, b"1", environment="local", source="/other", version="1", id="a|b")
    ids = {job_id(written, first), job_id(written, second), job_id(written, first, "again"), job_id(other, first)}
    assert len(ids) == 4
    assert all(len(i) <= 202 and "|" not in i for i in ids)


# Trouble ------------------------------------------------------------------------------------------------------


def test_reordering_harms_nobody(
    broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen, proxy: FaultProxy,
    run_receivers: Receive, run_worker: RunWorker,
) -> None:  # fmt: skip
    proxy.always("ReceiveMessage", faults.reorder)
    handle(event, seen)
    publisher.publish_many(event, range(30))
    run_receivers(broker)
    run_worker(broker)
    eventually(lambda: len(seen.events) == 30)
    assert seen.data() == list(range(30))


def test_throttling_half_failed_deletes_and_lost_replies(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen, proxy: FaultProxy,
    run_receivers: Receive, run_worker: RunWorker,
) -> None:  # fmt: skip
    publisher.publish_many(event, range(30))
    proxy.next("ReceiveMessage", faults.refuse("ThrottlingException"), times=2)
    proxy.next("DeleteMessageBatch", faults.half_fail, times=2)
    proxy.next("DeleteMessageBatch", faults.lose_reply)
    proxy.next("DeleteMessageBatch", faults.refuse("RequestThrottled"), times=2)
    handle(event, seen)
    run_receivers(broker)
    run_worker(broker)
    eventually(lambda: len(seen.events) == 30)
    eventually(lambda: in_sqs(aws, queue) == 0)
    assert seen.data() == list(range(30))


def test_a_receive_whose_reply_is_lost_comes_again(
    broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen, proxy: FaultProxy,
    run_receivers: Receive, run_worker: RunWorker,
) -> None:  # fmt: skip
    publisher.publish_many(event, range(5))
    proxy.next("ReceiveMessage", faults.lose_reply)
    handle(event, seen)
    run_receivers(broker, visibility_seconds=1)
    run_worker(broker)
    eventually(lambda: seen.data() == [0, 1, 2, 3, 4])


def test_a_queue_deleted_under_the_consumer(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen,
    run_receivers: Receive, run_worker: RunWorker, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    from fourlane.events.provision import ensure

    handle(event, seen)
    run_receivers(broker)
    run_worker(broker)
    publisher.publish(event, 1)
    eventually(lambda: seen.events)
    aws.on(queue, "delete_queue")
    eventually(lambda: "there is no such queue" in caplog.text)
    assert "fourlane events provision" in caplog.text
    ensure(aws, queue)
    publisher.publish(event, 2)
    eventually(lambda: seen.data() == [1, 2])


def test_sqs_is_away_for_a_while(
    broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen, proxy: FaultProxy,
    run_receivers: Receive, run_worker: RunWorker, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    handle(event, seen)
    run_worker(broker)
    proxy.always("*", faults.cut)
    run_receivers(broker)
    eventually(lambda: "next try" in caplog.text)
    proxy.always("*", None)
    publisher.publish(event, 1)
    eventually(lambda: seen.events)


def test_redis_is_away_and_nothing_counts_against_the_event(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen,
    run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, proxy: FaultProxy,
) -> None:  # fmt: skip
    handle(event, seen)
    publisher.publish_many(event, range(3))
    stopping = threading.Event()
    mover = Mover(aws, broker.store, catalogue.handlers(), stopping)
    away = [RedisUnavailable("away")] * 2

    def sometimes(*args: Any) -> int:
        if away:
            raise away.pop()
        return accept(*args)

    monkeypatch.setattr(taken, "accept", sometimes)
    received = messages.receive(aws, queue, wait_seconds=1)
    mover.take(queue, received)
    assert proxy.calls["ChangeMessageVisibilityBatch"] == 2, "they stay hidden meanwhile"
    assert proxy.calls["ReceiveMessage"] == 1
    run_worker(broker)
    eventually(lambda: seen.data() == [0, 1, 2])

    publisher.publish(event, 3)
    away.append(RedisUnavailable("away"))
    stopping.set()
    mover.take(queue, messages.receive(aws, queue, wait_seconds=1))
    [again] = messages.receive(aws, queue, wait_seconds=1)
    assert again.receives == 2, "a stop gives them back at once"


def test_a_real_redis_that_is_down_for_a_while(
    aws: Aws, redis_server: Server, publisher: Publisher, queue: EventQueue, event: str, seen: Seen,
    run_receivers: Receive, run_worker: RunWorker, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    broker = RedisBroker(url=redis_server.url)
    dramatiq.set_broker(broker)
    handle(event, seen)
    run_receivers(broker)
    publisher.publish(event, 0)
    eventually(lambda: browse_ids(broker))
    redis_server.stop()
    publisher.publish_many(event, range(1, 30))
    eventually(lambda: "wait in hand" in caplog.text, 20)
    redis_server.start()
    run_worker(broker)
    eventually(lambda: seen.data() == list(range(30)), 30)
    eventually(lambda: in_sqs(aws, queue) == 0)
    assert not drain(aws, queue.dead_letters)


# Poison -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("not json", "no CloudEvents 1.0 JSON"),
        ('{"specversion": "1.0"}', "missing required field"),
        ("[]", "no CloudEvents 1.0 JSON"),
        (json.dumps({"Type": "Notification", "Message": "from SNS"}), "no CloudEvents 1.0 JSON"),
        ({"type": "local.events.platform.other"}, "the queue carries"),
        ({"type": "production.events.platform.x"}, "belongs to the environment"),
        ({"specversion": "2.0"}, "'2.0' is not known here"),
        ({"time": "yesterday"}, "no RFC 3339 time"),
        ({"datacontenttype": "text/xml"}, "cannot be read, only application/json"),
        ({"id": ""}, "no id"),
        ({"data": {"user": 1}}, "breaks its model Signup: user: Input should be a valid string; at: Field required"),
    ],
)
def test_poison_goes_to_the_dead_letter_queue_with_its_reason(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen,
    run_receivers: Receive, run_worker: RunWorker, body: Any, reason: str,
) -> None:  # fmt: skip
    events.declare(event, Signup)
    handle(event, seen)
    good = {"user": "ada", "at": "2026-01-02T00:00:00Z"}
    if isinstance(body, dict):
        sound = {
            "specversion": "1.0", "id": "x", "source": "/s", "type": f"local.events.{event}",
            "time": "2026-01-02T00:00:00Z", "datacontenttype": "application/json", "data": good,
        }  # fmt: skip
        body = json.dumps(sound | body)
    aws.on(queue, "send_message", MessageBody=body)
    publisher.publish(event, good)
    run_receivers(broker)
    run_worker(broker)
    [buried] = eventually(lambda: drain(aws, queue.dead_letters))
    assert reason in buried.reason
    assert buried.body == body
    eventually(lambda: len(seen.events) == 1)  # the others go on
    eventually(lambda: in_sqs(aws, queue) == 0)


def test_poison_that_is_delivered_again_at_once_is_buried_once(
    aws: Aws, broker: RedisBroker, queue: EventQueue, event: str, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    handle(event, seen)
    for _ in range(3):
        aws.on(queue, "send_message", MessageBody="not json")
    mover = Mover(aws, broker.store, catalogue.handlers(), threading.Event())
    received = [message for _ in range(2) for message in drain(aws, queue)]
    assert len(received) == 3
    takers = [threading.Thread(target=mover.take, args=(queue, received)) for _ in range(4)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    mover.take(queue, received)
    assert len(drain(aws, queue.dead_letters)) == 3
    assert caplog.text.count("dead event=") == 3
    assert in_sqs(aws, queue) == 0


def test_poison_stays_when_it_cannot_be_buried(
    aws: Aws, broker: RedisBroker, queue: EventQueue, event: str, seen: Seen, proxy: FaultProxy,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    handle(event, seen)
    aws.on(queue, "send_message", MessageBody="not json")
    mover = Mover(aws, broker.store, catalogue.handlers(), threading.Event())
    proxy.next("SendMessage", faults.refuse("AccessDenied", 403))
    mover.take(queue, messages.receive(aws, queue, wait_seconds=1, visibility_seconds=0))
    assert "permission sqs:SendMessage is missing" in caplog.text
    assert len(drain(aws, queue)) == 1


def test_large_data_that_is_not_what_was_published_is_a_dead_letter_in_redis(
    aws: Aws, broker: RedisBroker, queue: EventQueue, event: str, seen: Seen, run_receivers: Receive,
    run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(setup, "large_data", lambda of: (aws, "mine"))
    handle(event, seen)
    body = {
        "specversion": "1.0", "id": "x", "source": "/s", "type": f"local.events.{event}",
        "time": "2026-01-02T00:00:00Z", "datacontenttype": "application/json", "dataref": "s3://theirs/secret",
    }  # fmt: skip
    aws.on(queue, "send_message", MessageBody=json.dumps(body))
    run_receivers(broker)
    run_worker(broker)
    [letter] = eventually(lambda: dead_letters.find(broker.store, dead_letters.Filter(), "", 10).letters)
    assert letter.reason == "rejected"
    assert "not in FOURLANE_EVENTS_BUCKET" in letter.detail


# Declaring ----------------------------------------------------------------------------------------------------


def test_declaring_handlers(broker: RedisBroker, event: str, seen: Seen) -> None:
    with pytest.raises(ValueError, match="through must be"):
        handle(event, seen, through="sideways")
    with pytest.raises(ValueError, match="no category"):
        handle("billing.paid", seen)
    handle(event, seen)
    with pytest.raises(ValueError, match="already"):
        handle(event, seen)
    audit = "audit." + event.partition(".")[2]
    handle(audit, seen)
    handle(audit, seen, through="queue", task_name="second")
    by_event = catalogue.handlers()
    assert [h.through for h in by_event[queue_of(audit).event]] == ["direct", "queue"]
    assert way_of(by_event[queue_of(event).event]) == "queue"
    assert way_of(by_event[queue_of(audit).event]) == "direct"
    assert sum(type(m).__name__ == "Starter" for m in broker.middleware) == 1


def test_a_handler_can_be_called_with_an_event(broker: RedisBroker, event: str, seen: Seen) -> None:
    handler = handle(event, seen)
    given = Event("i", "/s", event, datetime.now(UTC), 1)
    handler(given)
    assert seen.events == [given]


def test_what_events_leave_in_redis_is_in_the_catalogue(
    broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen, run_receivers: Receive
) -> None:
    from fourlane.queues.doctor import Level, examine

    handle(event, seen)
    run_receivers(broker)
    publisher.publish(event, 1)
    eventually(lambda: browse_ids(broker))
    findings = [f for f in examine(broker.store, workers=browse.workers(broker.store)) if f.level is not Level.OK]
    assert not [f for f in findings if "taken" in f.text], findings
    [key] = broker.client.keys(f"{broker.store.namespace}*taken*")
    assert 2 * 86_400 < broker.client.ttl(key) <= 3 * 86_400


def test_on_a_cluster(cluster_urls: list[str]) -> None:
    """Every key is declared, and lies in the service's slot."""
    client = redis.RedisCluster.from_url(cluster_urls[0])
    store = Store(Connector(client), namespace="events-" + uuid.uuid4().hex[:6])
    jobs = [
        Accepting(f"1.e{n}:on|t5", codec.encode("on", [{}], enqueued_ms=5), due) for n, due in enumerate((0, 0, 2**45))
    ]
    try:
        assert accept(store, "mail", 1, jobs) == 3
        assert accept(store, "mail", 1, [*jobs, Accepting("1.e9:on|t5", b"[]")]) == 1
        claims = Claims(store)
        assert claims.claim("mail", "1.e0:on", "a", 10_000) is Claim.DONE
        assert claims.claim("mail", "1.x", "a", 10_000) is Claim.MINE
        assert claims.claim("mail", "1.x", "b", 10_000) is Claim.OTHERS
        claims.release("mail", "1.x", "a")
        assert claims.claim("mail", "1.x", "b", 10_000) is Claim.MINE
        claims.done("mail", "1.x", "b")
        assert claims.claim("mail", "1.x", "a", 10_000) is Claim.DONE
    finally:
        store.connector.close()


def test_a_large_batch_of_the_script(redis_url: str, namespace: str) -> None:
    store = Store(Connector(client_of(redis_url)), namespace=namespace)
    jobs = [Accepting(f"1.e{n}:on|t5", b"[]", 2**45 if n % 2 else 0) for n in range(2_500)]
    try:
        assert accept(store, "mail", 1, jobs) == 2_500
        assert accept(store, "mail", 1, jobs) == 0
        keys = store.service("mail")
        assert store.connector.command(keys.ready[1], "LLEN", keys.ready[1]) == 1_250
        assert store.connector.command(keys.delayed, "ZCARD", keys.delayed) == 1_250
    finally:
        store.connector.close()


def test_what_kills_its_receiver_before_it_is_moved_ends_too(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen,
    run_worker: RunWorker,
) -> None:  # fmt: skip
    """A model's validator is a user's code. Suspects are moved alone, and what lived is forgotten."""
    handle(event, seen)
    publisher.publish_many(event, range(3))
    mover = Mover(aws, broker.store, catalogue.handlers(), threading.Event())
    tries = Tries(broker.store)
    first = sorted(messages.receive(aws, queue, visibility_seconds=0), key=lambda m: m.body)
    for message, deaths in zip(first, (3, 2, 0), strict=True):
        for _ in range(deaths):
            tries.died(message.id, alone=True, killed=False)
    moved: list[int] = []
    move = mover._move
    mover._move = lambda queue, some: (moved.append(len(some)), move(queue, some))[1]  # type: ignore[method-assign]
    mover.take(queue, eventually(lambda: messages.receive(aws, queue)))
    assert moved == [1, 1]
    run_worker(broker)
    eventually(lambda: len(seen.events) == 2)
    [buried] = drain(aws, queue.dead_letters)
    assert (buried.body, buried.reason) == (first[0].body, POISON)
    assert [tries.read(message.id) for message in first] == [NONE] * 3
