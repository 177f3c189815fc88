"""Deliveries to endpoints in the database: a real receiver, a relay and a worker."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dramatiq.broker
import pytest
import svix.webhooks
from sqlalchemy import select

import fourlane
from fourlane import crypto
from fourlane.config import load_settings
from fourlane.db.engine import Database, open_database
from fourlane.db.models import AuditLog, Organization, WebhookDelivery, WebhookEndpoint
from fourlane.names import Queue, Tier
from fourlane.outbox.relay import Relay
from fourlane.providers.http import loop as http_loop
from fourlane.queues.broker import RedisBroker
from fourlane.root import Root
from fourlane.tasks.webhooks import channel, endpoints, events, lines, policy, reopening, rows, setup, standing
from fourlane.tasks.webhooks.delivery import deliver
from fourlane.tasks.webhooks.endpoints import deliver_to_endpoint
from fourlane.tasks.webhooks.events import payload_version, resend, send_event
from fourlane.worker.loop.loop import Loop
from tests.http_server import Reply, Request, serving
from tests.servers import eventually


class Receiver:
    """Notes what arrives; ``answers`` are given first, then 200."""

    def __init__(self) -> None:
        self.arrived: list[tuple[float, Request]] = []
        self.answers: list[Reply] = []
        self.running = self.most = 0
        self.pause_seconds = 0.0
        self.lock = threading.Lock()
        self.url = ""

    def __call__(self, request: Request) -> Reply:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.arrived.append((time.monotonic(), request))
            reply = self.answers.pop(0) if self.answers else Reply()
        if self.pause_seconds:
            time.sleep(self.pause_seconds)
        with self.lock:
            self.running -= 1
        return reply

    def data(self) -> list[Any]:
        return [json.loads(request.body)["data"] for _, request in self.arrived]


class World:
    """A database, a broker, a receiver."""

    def __init__(self, database: Database, broker: RedisBroker, receiver: Receiver) -> None:
        self.database, self.broker, self.receiver = database, broker, receiver
        self.organization = uuid.uuid4()
        with database.begin() as session:
            session.add(Organization(id=self.organization, name="Acme"))

    def endpoint(self, **options: Any) -> WebhookEndpoint:
        made = WebhookEndpoint(
            **{
                "id": uuid.uuid4(),
                "organization_id": self.organization,
                "url": self.receiver.url + "/hook",
                "secret": rows.new_secret(),
                "event_types": ["*"],
            }
            | options
        )
        with self.database.begin() as session:
            session.add(made)
        return self.get(made.id)

    def get(self, id: uuid.UUID) -> WebhookEndpoint:
        with self.database.begin() as session:
            found = session.get_one(WebhookEndpoint, id)
            session.expunge(found)
            return found

    def send(self, event_type: str, data: Any, **options: Any) -> list[uuid.UUID]:
        with self.database.begin() as session:
            return send_event(session, event_type, data, organization_id=self.organization, **options)

    def delivery(self, id: uuid.UUID) -> WebhookDelivery:
        with self.database.begin() as session:
            found = session.get_one(WebhookDelivery, id)
            session.expunge(found)
            return found

    def relay(self) -> None:
        Relay(self.database, self.broker.store).drain()

    def statuses(self) -> Counter[str]:
        with self.database.begin() as session:
            return Counter(session.scalars(select(WebhookDelivery.status)))

    def work(self, *, until: Any = None, seconds: float = 20) -> None:
        """Relay, and run a worker until no delivery is pending."""
        self.relay()
        loop = Loop(self.broker, [Queue("webhooks", tier) for tier in Tier], name="w", slots=8, grace_seconds=2.0)
        thread = threading.Thread(target=loop.run, daemon=True)
        thread.start()
        try:
            eventually(until or (lambda: not self.statuses()["pending"]), seconds, interval=0.05)
        finally:
            loop.stop()
            thread.join(10)
            close_connections()


def close_connections() -> None:
    """Of event loops that ended with their workers, as they would end with their processes."""
    for ended in [loop for loop in http_loop._idle if not loop.is_running() and not loop.is_closed()]:
        ended.run_until_complete(http_loop.aclose())


@pytest.fixture(autouse=True)
def _keys() -> Iterator[None]:
    crypto.configure(crypto.Keyring([crypto.new_key()]))
    yield
    crypto.configure(None)


@pytest.fixture
def world(redis_url: str, namespace: str, migrated_sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with _world(migrated_sqlite_url, redis_url, namespace, monkeypatch) as made:
        yield made


@pytest.fixture
def world_on_postgresql(
    redis_url: str, namespace: str, migrated_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    with _world(migrated_postgres_url, redis_url, namespace, monkeypatch) as made:
        yield made


@contextmanager
def _world(url: str, redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    database = open_database(url)
    broker = RedisBroker(url=redis_url, namespace=namespace)
    before = dramatiq.broker.global_broker
    dramatiq.broker.global_broker = broker
    for made in (deliver_to_endpoint, deliver, channel.tell_channel, reopening.reopen):
        monkeypatch.setattr(made, "broker", broker)
        broker.declare_actor(made)
    monkeypatch.setattr(policy, "_policy", None)
    policy.configure(allow_private=True, timeout_seconds=10)
    monkeypatch.setattr(setup, "_setup", None)
    setup.configure(database, disable_after=timedelta(days=5))
    receiver = Receiver()
    with serving(receiver) as receiver.url:
        yield World(database, broker, receiver)
    broker.close()
    database.close()
    dramatiq.broker.global_broker = before


def test_an_event_goes_to_those_who_asked_for_it(world: World) -> None:
    wants_all = world.endpoint()
    wants_invoices = world.endpoint(event_types=["invoice.*"])
    platforms = world.endpoint(organization_id=None)
    world.endpoint(event_types=["user.created"])
    world.endpoint(disabled_at=datetime.now(UTC), disabled_reason="tests")
    other = uuid.uuid4()
    with world.database.begin() as session:
        session.add(Organization(id=other, name="Other"))
    world.endpoint(organization_id=other)
    made = world.send("invoice.paid", {"amount": 1999}, event_id="evt_1")
    assert {world.delivery(id).endpoint_id for id in made} == {wants_all.id, wants_invoices.id, platforms.id}
    world.work()
    assert world.statuses() == {"delivered": 3}
    for _, request in world.receiver.arrived:
        body = json.loads(request.body)
        assert (body["type"], body["data"]) == ("invoice.paid", {"amount": 1999})
        assert request.headers["webhook-id"] == "evt_1"


def test_what_is_rolled_back_is_not_delivered(world: World) -> None:
    world.endpoint()
    with world.database.session() as session:
        send_event(session, "a", 1, organization_id=world.organization)
        session.flush()
        session.rollback()
    world.work()
    assert (world.statuses(), world.receiver.arrived) == ({}, [])


def test_both_secrets_sign_while_one_is_replaced(world: World) -> None:
    endpoint = world.endpoint()
    old = endpoint.secret
    with world.database.begin() as session:
        new = rows.rotate(session.get_one(WebhookEndpoint, endpoint.id), now=datetime.now(UTC))
    world.send("a", 1)
    world.work()
    [(_, request)] = world.receiver.arrived
    for secret in (old, new):  # another library, with either
        svix.webhooks.Webhook(secret).verify(request.body, dict(request.headers))
    with pytest.raises(svix.webhooks.WebhookVerificationError):
        svix.webhooks.Webhook(rows.new_secret()).verify(request.body, dict(request.headers))

    with world.database.begin() as session:
        session.get_one(WebhookEndpoint, endpoint.id).previous_secret_expires_at = datetime.now(UTC)
    world.send("a", 2)
    world.work()
    request = world.receiver.arrived[-1][1]
    svix.webhooks.Webhook(new).verify(request.body, dict(request.headers))
    with pytest.raises(svix.webhooks.WebhookVerificationError):
        svix.webhooks.Webhook(old).verify(request.body, dict(request.headers))


def test_secrets_are_not_readable_in_the_database(world: World, tmp_path: Path) -> None:
    endpoint = world.endpoint()
    data = b"".join(path.read_bytes() for path in tmp_path.glob("test.db*"))
    assert endpoint.url.encode() in data
    assert endpoint.secret.encode() not in data


def test_the_log_of_a_delivery(world: World) -> None:
    world.endpoint()
    world.receiver.answers = [Reply(503, b"busy\0", {"x-trace": "t1"}), Reply(200, b"thanks")]
    [id] = world.send("a", {"n": 1})
    world.work(until=lambda: world.delivery(id).attempts == 1)
    failed = world.delivery(id)
    assert (failed.status, failed.response_status, failed.response_body) == ("pending", 503, "busy")
    assert failed.error == "HTTP 503 Service Unavailable: busy"
    assert (failed.response_headers or {})["x-trace"] == "t1"
    assert (failed.request_headers or {})["webhook-id"] == failed.event_id
    world.work()
    done = world.delivery(id)
    assert (done.status, done.attempts, done.response_status, done.error) == ("delivered", 2, 200, None)
    assert done.delivered_at is not None
    assert done.latency_ms is not None
    assert world.get(done.endpoint_id).consecutive_failures == 0


def test_what_can_never_succeed_fails_at_once_and_can_be_sent_again(world: World) -> None:
    world.endpoint()
    world.receiver.answers = [Reply(410, b"gone")]
    [id] = world.send("a", 1)
    world.work()
    assert (world.delivery(id).status, world.delivery(id).attempts) == ("failed", 1)
    with world.database.begin() as session:
        found = rows.find_deliveries(session, status="failed", limit=10)
        assert resend(session, list(found)) == 1
        assert resend(session, list(found)) == 0  # it is on its way already
    world.work()
    assert world.delivery(id).status == "delivered"
    first, second = (request.headers["webhook-id"] for _, request in world.receiver.arrived)
    assert first == second


def test_a_job_that_comes_again_finds_it_delivered(world: World) -> None:
    """As after a crash between the log and the job's end."""
    world.endpoint()
    [id] = world.send("a", 1)
    for _ in range(2):
        deliver_to_endpoint(id.hex)
    assert (world.delivery(id).status, len(world.receiver.arrived)) == ("delivered", 1)


def test_four_attempts_and_no_more(world: World) -> None:
    world.endpoint()
    world.receiver.answers = [Reply(500)] * 10
    [id] = world.send("a", 1)
    world.work(seconds=60)
    times = [moment for moment, _ in world.receiver.arrived]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert (world.delivery(id).status, world.delivery(id).attempts) == ("failed", 4)
    # At least; how much more is this machine's business.
    assert all(pause > wanted - 0.1 for pause, wanted in zip(pauses, (1, 2, 4), strict=True)), pauses


def test_no_more_at_once_than_an_endpoint_bears(world: World) -> None:
    world.endpoint(max_concurrency=2)
    world.receiver.pause_seconds = 0.05
    for n in range(12):
        world.send("a", n)
    world.work()
    assert world.receiver.most == 2
    assert sorted(world.receiver.data()) == list(range(12))
    assert {world.delivery(id).attempts for id in _ids(world)} == {1}  # waiting cost none


def test_a_slow_receiver_leaves_others_alone(world: World) -> None:
    """It has its endpoint's places, and neither threads nor other receivers wait for it."""
    waits: list[float] = []
    slow = Receiver()
    slow.pause_seconds = 1.0

    def quick(sent: float) -> None:
        waits.append(time.time() - sent)

    task = fourlane.task(service="webhooks", name="quick", broker=world.broker)(quick)
    with serving(slow) as slow.url:
        world.endpoint(url=slow.url, event_types=["slow"], max_concurrency=12)
        world.endpoint(event_types=["a"])
        for n in range(20):
            world.send("slow", n)
        world.send("a", "other")

        def is_over() -> bool:
            if len(slow.arrived) >= 12 and len(waits) < 8:
                task.send(time.time())
            return len(slow.arrived) == 20 and slow.running == 0 and len(waits) >= 8

        world.work(until=is_over)
    assert max(waits) < 0.5
    assert slow.most == 12
    assert world.receiver.arrived[0][0] - slow.arrived[0][0] < 0.5


def test_one_address_gets_so_many_at_once_of_an_organization(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_shares_of", lambda of: lines.Shares(of_tenant=5, to_receiver=2))
    world.receiver.pause_seconds = 0.1
    for n in range(9):
        deliver.send_with_options(args=(world.receiver.url, {"data": n}), tenant="a")
    world.work(until=lambda: len(world.receiver.arrived) == 9 and not world.receiver.running)
    assert world.receiver.most == 2


def test_an_organization_has_its_share_whatever_its_endpoints(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_shares_of", lambda of: lines.Shares(of_tenant=3, to_receiver=2))
    world.receiver.pause_seconds = 0.1
    for _ in range(5):
        world.endpoint()
    for n in range(3):
        world.send("a", n)
    world.work()
    assert world.receiver.most == 3
    assert world.statuses() == {"delivered": 15}


def test_a_receiver_that_says_when_to_come_again_is_left_alone_until_then(world: World) -> None:
    world.endpoint()
    world.receiver.answers = [Reply(503, b"", {"retry-after": "2"})]
    [first] = world.send("a", 0)
    world.work(until=lambda: world.delivery(first).attempts == 1)
    for n in range(1, 6):
        world.send("a", n)
    world.work()
    moments = [moment for moment, _ in world.receiver.arrived]
    assert moments[1] - moments[0] > 1.9
    assert world.statuses() == {"delivered": 6}
    assert {world.delivery(id).attempts for id in _ids(world)} == {1, 2}  # waiting cost none


def test_one_tenant_does_not_close_anothers_line_to_an_address(world: World) -> None:
    world.receiver.answers = [Reply(503, b"", {"retry-after": "30"})]
    deliver.send_with_options(args=(world.receiver.url, {"data": "a1"}), tenant="a")
    world.work(until=lambda: len(world.receiver.arrived) == 1)
    deliver.send_with_options(args=(world.receiver.url, {"data": "a2"}), tenant="a")
    deliver.send_with_options(args=(world.receiver.url, {"data": "b"}), tenant="b")
    world.work(until=lambda: len(world.receiver.arrived) == 2)
    assert world.receiver.data() == ["a1", "b"]


def test_an_endpoint_that_is_slow_gets_one_at_a_time_until_it_is_quick(world: World) -> None:
    policy.configure(allow_private=True, timeout_seconds=10, slow_seconds=0.1)
    endpoint = world.endpoint(max_concurrency=5)
    world.receiver.pause_seconds = 0.2
    for n in range(14):
        world.send("a", n)
    world.work()
    moments = [moment for moment, _ in world.receiver.arrived]
    assert 1 < world.receiver.most <= 5
    assert all(after - before > 0.19 for before, after in itertools.pairwise(moments[-4:])), moments
    assert world.get(endpoint.id).consecutive_slow == 5
    world.receiver.pause_seconds = 0
    world.send("a", 14)
    world.work()
    assert world.get(endpoint.id).consecutive_slow == 0


def test_order_per_key(world: World) -> None:
    world.endpoint(ordered=True)
    world.receiver.answers = [Reply(503), Reply(503)]
    for n in range(12):
        world.send("a", n, order_key=f"k{n % 2}")
    world.work()
    arrived = list(dict.fromkeys(world.receiver.data()))  # each once, by its first arrival
    finished = list(world.receiver.data())
    assert [n for n in arrived if n % 2 == 0] == [0, 2, 4, 6, 8, 10]
    assert [n for n in arrived if n % 2 == 1] == [1, 3, 5, 7, 9, 11]
    assert len(finished) == 14


def test_an_endpoint_that_fails_is_left_alone_then_tried_by_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "CLOSED_MS", 1_500)
    endpoint = world.endpoint()
    with world.database.begin() as session:
        session.get_one(WebhookEndpoint, endpoint.id).consecutive_failures = 4
    world.receiver.answers = [Reply(500)]
    world.send("a", 0)
    world.work(until=lambda: world.get(endpoint.id).consecutive_failures == 5)
    opened = world.receiver.arrived[-1][0]
    world.receiver.pause_seconds = 0.1
    for n in range(1, 9):
        world.send("a", n)
    world.work()
    assert world.receiver.arrived[1][0] - opened > 1.3
    assert world.receiver.arrived[2][0] - world.receiver.arrived[1][0] > 0.09  # one tried alone
    assert world.statuses() == {"delivered": 9}
    assert sorted(Counter(world.receiver.data()).items()) == [(0, 2), *((n, 1) for n in range(1, 9))]
    assert world.get(endpoint.id).consecutive_failures == 0


def test_days_of_failure_disable_an_endpoint_and_tell(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    operators = Receiver()
    with serving(operators) as operators.url:
        setup.configure(world.database, disable_after=timedelta(days=5), has_channel=True)
        monkeypatch.setattr(channel, "root", lambda: Root(load_settings(channel_url=operators.url)))
        endpoint = world.endpoint()
        with world.database.begin() as session:
            row = session.get_one(WebhookEndpoint, endpoint.id)
            row.failing_since = datetime.now(UTC) - timedelta(days=5, minutes=1)
        world.receiver.answers = [Reply(410)]
        world.send("a", 1)
        world.work()
        disabled = world.get(endpoint.id)
        assert disabled.disabled_at is not None
        assert "took nothing since" in (disabled.disabled_reason or "")
        with world.database.begin() as session:
            assert session.scalars(select(AuditLog.action)).all() == ["webhooks.endpoint-disabled"]
        assert world.send("a", 2) == []  # nothing more is meant for it
        world.work(until=lambda: operators.arrived)
        assert "is disabled: it took nothing since" in json.loads(operators.arrived[0][1].body)["text"]

    with world.database.begin() as session:
        rows.enable(session, session.get_one(WebhookEndpoint, endpoint.id), actor="ops")
    world.send("a", 3)
    world.work()
    assert world.receiver.data()[-1] == 3


def test_a_delivery_on_its_way_to_a_disabled_endpoint_is_skipped(world: World) -> None:
    endpoint = world.endpoint()
    [id] = world.send("a", 1)
    with world.database.begin() as session:
        row = session.get_one(WebhookEndpoint, endpoint.id)
        rows.disable(session, row, "asked for", actor="ops", now=datetime.now(UTC))
    world.work()
    assert world.delivery(id).status == "skipped"
    assert world.receiver.arrived == []


def test_the_log_is_cut_by_age(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "_PURGE_ROWS", 3)
    world.endpoint()
    ids = [id for n in range(10) for id in world.send("a", n)]
    with world.database.begin() as session:
        for number, id in enumerate(ids):
            row = session.get_one(WebhookDelivery, id)
            row.status = "pending" if number == 0 else "delivered"
            row.created_at = datetime.now(UTC) - timedelta(days=31 if number < 8 else 29)
    assert endpoints.purge.fn(30) == 7
    assert world.statuses() == {"pending": 1, "delivered": 2}


def test_payloads_by_version(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_versions", {})

    @payload_version("2")
    def second(event_type: str, data: Any) -> Any:
        return {"object": data, "kind": event_type}

    world.endpoint(version="1")
    world.endpoint(version="2")
    world.send("a", {"n": 1})
    world.work()
    assert sorted(map(str, world.receiver.data())) == ["{'n': 1}", "{'object': {'n': 1}, 'kind': 'a'}"]


def test_a_private_address_is_refused(world: World) -> None:
    policy.configure(allow_private=False, timeout_seconds=10)
    world.endpoint()
    [id] = world.send("a", 1)
    world.work()
    assert (world.delivery(id).status, world.receiver.arrived) == ("failed", [])
    assert "loopback" in (world.delivery(id).error or "")


def test_the_same_on_postgresql(world_on_postgresql: World) -> None:
    world = world_on_postgresql
    for story in (test_the_log_of_a_delivery, test_both_secrets_sign_while_one_is_replaced, test_order_per_key):
        with world.database.begin() as session:
            for endpoint in session.scalars(select(WebhookEndpoint)):
                session.delete(endpoint)
        world.receiver.arrived.clear()
        story(world)


CHILD = """
import sys, threading
from datetime import timedelta
import dramatiq
from fourlane import crypto
from fourlane.db.engine import open_database
from fourlane.names import Queue, Tier
from fourlane.queues.broker import RedisBroker
database, redis_url, namespace, key = sys.argv[1:]
crypto.configure(crypto.Keyring([key]))
broker = RedisBroker(url=redis_url, namespace=namespace)
dramatiq.set_broker(broker)
from fourlane.tasks.webhooks import endpoints, policy, setup
from fourlane.worker.loop.loop import Loop
policy.configure(allow_private=True, timeout_seconds=10)
setup.configure(open_database(database), disable_after=timedelta(days=5))
print("ready", flush=True)
Loop(broker, [Queue("webhooks", tier) for tier in Tier], name="child", slots=4, grace_seconds=2.0).run()
"""


def test_killed_in_the_middle_of_a_delivery(world: World, redis_url: str, namespace: str, tmp_path: Path) -> None:
    """Nothing is missing; what arrives twice has one webhook-id; what was booked as delivered is not sent again."""
    key = crypto.new_key()
    crypto.configure(crypto.Keyring([key]))
    world.endpoint(max_concurrency=2)
    ids = [id for n in range(30) for id in world.send("a", n, event_id=f"evt_{n}")]
    world.relay()
    world.receiver.pause_seconds = 0.05
    arguments = [sys.executable, "-c", CHILD, f"sqlite:///{tmp_path}/test.db", redis_url, namespace, key]
    environment = os.environ | {"PYTHONPATH": str(Path(fourlane.__file__).parents[1])}
    child = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE)
    eventually(lambda: len(world.receiver.arrived) >= 8, 20)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    done = {id for id in ids if world.delivery(id).status == "delivered"}
    sent_before = Counter(request.headers["webhook-id"] for _, request in world.receiver.arrived)
    # No supervisor tells of the death here: it is noticed by silence. The jobs find the places that they hold still.
    world.work(seconds=40)
    assert world.statuses() == {"delivered": 30}
    assert sorted(set(world.receiver.data())) == list(range(30))
    sent = Counter(request.headers["webhook-id"] for _, request in world.receiver.arrived)
    for id in done:
        event = world.delivery(id).event_id
        assert sent[event] == sent_before[event]
    assert sum(sent.values()) <= 30 + 4  # at most what was in flight


def _ids(world: World) -> list[uuid.UUID]:
    with world.database.begin() as session:
        return list(session.scalars(select(WebhookDelivery.id)))
