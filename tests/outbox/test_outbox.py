"""From a transaction to Redis: once, in order, unchanged. On SQLite and PostgreSQL, directly and by PgBouncer."""

from __future__ import annotations

import json
import threading
import uuid
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from dramatiq.middleware import Middleware
from sqlalchemy import select

from fourlane import codec, outbox
from fourlane.db.engine import Database
from fourlane.db.models import JobOutbox, Organization
from fourlane.errors import InvalidArguments, InvalidName, InvalidOption, JobTooLarge, RedisUnavailable
from fourlane.job import State
from fourlane.outbox.relay import Relay
from fourlane.queues import browse, carry
from fourlane.queues.broker import RedisBroker
from fourlane.queues.lines import Line
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.store import Store
from fourlane.tasks.task import Task, task
from fourlane.telling import Observer
from tests.conftest import Hear, StartServer

AnyTask = Task[Any, Any]


def waiting(store: Store, service: str = "images", tier: int = 0) -> list[str]:
    """The ids in a ready list, the next one first."""
    key = store.service(service).ready[tier]
    return [entry.decode().split("|")[0][2:] for entry in store.connector.command(key, "LRANGE", key, 0, -1)]


def rows(database: Database) -> list[JobOutbox]:
    with database.begin() as session:
        return list(session.scalars(select(JobOutbox).order_by(JobOutbox.position)))


def finish(store: Store, service: str = "images") -> None:
    """The jobs are done, and nothing but the relay's memory knows of them."""
    keys = store.service(service)
    store.connector.command(keys.jobs, "DEL", keys.jobs, *keys.ready)


def test_a_job_exists_when_the_transaction_commits(
    database: Database, relay: Relay, store: Store, resize: AnyTask
) -> None:
    with database.begin() as session:
        session.add(Organization(name="Acme"))
        sent = outbox.enqueue(session, resize, "ä.png", 1.0, 1e22, width=10**30, nothing=None, zero="\0")
        session.flush()
    assert relay.drain() == 1
    info = sent.info()
    assert (info.id, info.state, info.task) == (sent.id, State.READY, "resize")
    assert info.args == ["ä.png", 1.0, 1e22]
    assert isinstance(info.args[2], float)
    assert info.kwargs == {"width": 10**30, "nothing": None, "zero": "\0"}
    assert abs((info.enqueued_at_ms or 0) - datetime.now(UTC).timestamp() * 1000) < 60_000
    [row] = rows(database)
    assert row.relayed_at is not None
    assert relay.drain() == 0


def test_no_job_when_it_rolls_back(database: Database, relay: Relay, store: Store, resize: AnyTask) -> None:
    with database.session() as session:
        outbox.enqueue(session, resize, 1)
        session.flush()
        session.rollback()
    assert relay.drain() == 0
    assert waiting(store) == []


def test_what_cannot_be_a_job_is_refused_at_once(database: Database, resize: AnyTask) -> None:
    with database.begin() as session:
        with pytest.raises(InvalidArguments, match=r"args\[0\]"):
            outbox.enqueue(session, resize, {1, 2})
        with pytest.raises(JobTooLarge):
            outbox.enqueue(session, resize, "x" * 1_100_000)
        with pytest.raises(ValueError, match="time zone"):
            outbox.enqueue_with_options(session, resize, eta=datetime(2030, 1, 1))
        with pytest.raises(InvalidOption, match="further ahead than the 366 days"):
            outbox.enqueue_with_options(session, resize, delay=timedelta(days=367))
    assert rows(database) == []


def test_a_tasks_own_check_refuses_too(database: Database, broker: RedisBroker) -> None:
    def positive(width: int) -> None:
        if width < 1:
            raise InvalidArguments(f"width {width} is too small")

    @task(broker=broker, check=positive)
    def shrink(width: int) -> None: ...

    with database.begin() as session:
        with pytest.raises(InvalidArguments, match="too small"):
            outbox.enqueue(session, shrink, 0)
        assert not session.new
        outbox.enqueue(session, shrink, 1)


def test_delays_tiers_and_options_arrive(database: Database, relay: Relay, resize: AnyTask) -> None:
    when = datetime.now(UTC) + timedelta(hours=1)
    with database.begin() as session:
        later = outbox.enqueue_with_options(session, resize, args=[1], eta=when, tier="P2", max_retries=1)
        soon = outbox.enqueue_with_options(session, resize, kwargs={"a": 1}, delay=timedelta(minutes=1))
    relay.drain()
    info = later.info()
    assert (info.state, info.due_at_ms) == (State.DELAYED, int(when.timestamp() * 1000))
    assert info.queue == "local.jobs.low.images"
    assert info.options["max_retries"] == 1
    assert soon.info().state is State.DELAYED


def test_whose_job_it_is_arrives(database: Database, relay: Relay, broker: RedisBroker, resize: AnyTask) -> None:
    organization = uuid.uuid4()

    class Runs:
        tenant = "initech"
        lost = False

    token = carry.running.set(Runs())
    try:
        with database.begin() as session:
            inherited = outbox.enqueue(session, resize, 1)
    finally:
        carry.running.reset(token)
    with database.begin() as session:
        owned = outbox.enqueue_with_options(session, resize, organization_id=organization)
        named = outbox.enqueue_with_options(session, resize, organization_id=organization, tenant="acme")
        of_nobody = outbox.enqueue(session, resize, 2)
        # As another program writes it: the organization stands in its column only.
        session.add(
            JobOutbox(id=(foreign := uuid.uuid4()), task="resize", service="images", organization_id=organization)
        )
        with pytest.raises(InvalidName, match="is no tenant"):
            outbox.enqueue_with_options(session, resize, tenant="two\nlines")
    assert relay.drain() == 5
    found = [
        browse.job(broker.store, str(one)).tenant for one in (inherited.id, owned.id, named.id, of_nobody.id, foreign)
    ]
    assert found == ["initech", str(organization), "acme", "", str(organization)]
    assert rows(database)[1].organization_id == organization


def test_the_trace_of_the_enqueue_goes_along(database: Database, relay: Relay, resize: AnyTask, hear: Hear) -> None:
    entered: list[tuple[str, str, int]] = []

    class Traces(Observer):
        def sending(self, queue: str, task: str, number: int = 1) -> Any:
            entered.append((queue, task, number))
            return nullcontext({"traceparent": "00-11"})

    hear(Traces())
    with database.begin() as session:
        sent = outbox.enqueue(session, resize, 1)
    assert entered == [("local.jobs.high.images", "resize", 1)]
    relay.drain()
    assert sent.info().options == {"traceparent": "00-11"}


def test_a_relay_that_died_before_its_commit_enqueues_once(
    database: Database, relay: Relay, store: Store, resize: AnyTask
) -> None:
    """Even when the jobs are done before the next relay comes."""
    with database.begin() as session:
        ids = [outbox.enqueue(session, resize, n).id for n in range(3)]

    class Died(BaseException): ...

    def die(*_: object) -> None:
        raise Died

    relay._mark = die  # type: ignore[assignment,method-assign]
    with pytest.raises(Died):
        relay.step()
    assert waiting(store) == ids
    finish(store)
    with database.begin() as session:
        new = outbox.enqueue(session, resize, "new")
    assert Relay(database, store).drain() == 4
    assert waiting(store) == [new.id]
    assert all(row.relayed_at for row in rows(database))


def test_a_relay_that_slept_too_long_is_refused(
    database: Database, relay: Relay, store: Store, resize: AnyTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.begin() as session:
        outbox.enqueue(session, resize, 1)
    monkeypatch.setattr("fourlane.outbox.handover._ACCEPT_MS", -1)
    with pytest.raises(RedisUnavailable, match="took over"):
        relay.step()
    assert waiting(store) == []
    assert rows(database)[0].relayed_at is None


def test_redis_forgets_ids_once_the_commit_is_known(
    database: Database, relay: Relay, store: Store, resize: AnyTask
) -> None:
    with database.begin() as session:
        outbox.enqueue(session, resize, 1)
    key = store.service("images").relayed
    relay.step()
    assert store.connector.command(key, "PTTL", key) > 6 * 86_400_000
    relay.settle()
    assert 0 < store.connector.command(key, "PTTL", key) <= 62_000
    assert store.connector.command(key, "ZCARD", key) == 1


def test_order_of_a_key_over_many_batches(database: Database, store: Store, resize: AnyTask) -> None:
    """Four relays at once, batches of three, one key and many others."""
    with database.begin() as session:
        for n in range(120):
            key = "account-1" if n % 2 else None
            outbox.enqueue_with_options(session, resize, args=[n], order_key=key)
    relays = [Relay(database, store, batch=3) for _ in range(4)]

    def work(relay: Relay) -> None:
        while any(row.relayed_at is None for row in rows(database)):
            relay.step()

    threads = [threading.Thread(target=work, args=[relay]) for relay in relays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    by_id = {str(row.id): row for row in rows(database)}
    arrived = [by_id[job_id] for job_id in waiting(store)]
    assert len(arrived) == 120
    keyed = [row.position for row in arrived if row.order_key]
    assert keyed == sorted(keyed)
    assert sum(relay.relayed for relay in relays) == 120


def test_a_service_with_a_broken_key_waits_alone(
    database: Database, relay: Relay, store: Store, broker: RedisBroker, resize: AnyTask
) -> None:
    broken = store.service("images").ready[0]
    store.connector.command(broken, "SET", broken, "no list")

    @task(broker=broker, service="mails")
    def mail(n: int) -> None: ...

    with database.begin() as session:
        stays = outbox.enqueue(session, resize, 1)
        goes = outbox.enqueue(session, mail, 2)
    relay.drain()
    assert waiting(store, "mails", 1) == [goes.id]
    store.connector.command(broken, "DEL", broken)
    relay._blocked.clear()
    relay.drain()
    assert stays.id in {str(row.id) for row in rows(database) if row.relayed_at}


def test_large_jobs_go_in_several_calls(database: Database, relay: Relay, store: Store, resize: AnyTask) -> None:
    with database.begin() as session:
        ids = [outbox.enqueue(session, resize, "x" * 900_000).id for _ in range(12)]
    assert relay.drain() == 12
    assert waiting(store) == ids


def test_a_redis_that_is_down_loses_nothing(database: Database, start_server: StartServer, resize: AnyTask) -> None:
    server = start_server()
    store = Store(Connector(client_of(server.url)))
    relay = Relay(database, store)
    with database.begin() as session:
        first = outbox.enqueue(session, resize, 1)
    server.kill()
    with pytest.raises(RedisUnavailable):
        relay.step()
    server.start()
    relay.drain()
    assert waiting(store) == [first.id]
    store.connector.close()


def test_old_rows_are_deleted(database: Database, store: Store, resize: AnyTask) -> None:
    relay = Relay(database, store, keep_seconds=100)
    with database.begin() as session:
        for n in range(4):
            outbox.enqueue(session, resize, n)
    relay.drain()
    now = datetime.now(UTC)
    with database.begin() as session:
        old, recent, failed, pending = session.scalars(select(JobOutbox).order_by(JobOutbox.position))
        old.relayed_at = now - timedelta(seconds=101)
        recent.relayed_at = now - timedelta(seconds=90)
        failed.relayed_at, failed.failed_at = None, now - timedelta(days=31)
        pending.relayed_at, pending.created_at = None, now - timedelta(days=400)
    relay._purge()
    assert [row.position for row in rows(database)] == [recent.position, pending.position]


def test_middleware_hears_of_the_enqueue(database: Database, relay: Relay, redis_url: str, namespace: str) -> None:
    """At the moment of the call: what it adds, such as a trace, goes along."""

    class Tracing(Middleware):
        def before_enqueue(self, broker: Any, message: Any, delay: Any) -> None:
            message.options["trace"] = "abc"

    broker = RedisBroker(url=redis_url, namespace=namespace)
    broker.add_middleware(Tracing())

    @task(broker=broker, service="images")
    def traced(n: int) -> None: ...

    with database.begin() as session:
        sent = outbox.enqueue(session, traced, 1)
    relay.drain()
    assert sent.info().options == {"trace": "abc"}
    broker.close()


def test_an_id_of_the_callers_is_one_job(database: Database, relay: Relay, store: Store, resize: AnyTask) -> None:
    chosen = uuid.uuid4()
    from sqlalchemy.exc import IntegrityError

    with database.begin() as session:
        outbox.enqueue_with_options(session, resize, args=[1], id=chosen)
    with pytest.raises(IntegrityError), database.begin() as session:
        outbox.enqueue_with_options(session, resize, args=[1], id=chosen)
    relay.drain()
    assert waiting(store) == [str(chosen)]


def test_it_relays_until_stopped_and_wakes_soon(
    database: Database, store: Store, resize: AnyTask, redis_url: str
) -> None:
    relay, stop = Relay(database, store), threading.Event()
    thread = threading.Thread(target=relay.run, args=[stop])
    thread.start()
    try:
        with redis.Redis.from_url(redis_url) as client:
            for n in range(3):
                with database.begin() as session:
                    sent = outbox.enqueue(session, resize, n)
                key = store.service("images").wake[0]
                assert client.bzpopmin(key, 5), "no wake for the worker"
                assert sent.id in waiting(store)
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()


def test_a_job_s_lines_go_along(database: Database, relay: Relay, store: Store, broker: RedisBroker) -> None:
    def lines(args: Any, kwargs: Any, options: Any) -> list[Line]:
        return [Line(f"to:{args[0]}", 3), Line(f"t:{options['tenant']}", 9)]

    send = task(name="send", service="images", broker=broker, lines=lines)(lambda receiver: None)
    with database.begin() as session:
        job = outbox.enqueue_with_options(session, send, args=["ada"], tenant="acme", max_retries=2)
    relay.drain()
    keys = store.service("images").jobs
    [body] = store.connector.command(keys, "HVALS", keys)
    envelope = codec.decode(body)
    assert envelope.lines == ["to:ada=3", "t:acme=9"]
    assert envelope.options == {"tenant": "acme", "max_retries": 2}
    assert job.info().state is State.READY


def test_so_many_jobs_of_one_organization_at_once(
    database: Database, store: Store, resize: AnyTask, broker: RedisBroker
) -> None:
    with database.begin() as session:
        session.add_all(organizations := [Organization(name="Acme"), Organization(name="Brand")])
        session.flush()
        for organization in (*[organizations[0]] * 4, organizations[1]):
            outbox.enqueue_with_options(session, resize, organization_id=organization.id)
        outbox.enqueue(session, resize)
    Relay(database, store, places=2).drain()
    keys = store.service("images").jobs
    bodies = [codec.decode(body) for body in store.connector.command(keys, "HVALS", keys)]
    named = sorted(envelope.lines[0] if envelope.lines else "" for envelope in bodies)
    assert named == sorted(["", *[f"t:{organizations[0].id}=2"] * 4, f"t:{organizations[1].id}=2"])


@pytest.mark.parametrize("lines", ["a", ["a"], ['a=1"]]\n'], 1, [["a=1"]], [f"a{n}=1" for n in range(9)]])
def test_lines_that_are_none_fail_their_row(database: Database, relay: Relay, lines: Any) -> None:
    with database.begin() as session:
        session.add(
            JobOutbox(id=uuid.uuid4(), task="t", service="images", tier=1, args="[]", kwargs="{}",
                      options=json.dumps({codec.LINES: lines}))
        )  # fmt: skip
    relay.drain()
    [row] = rows(database)
    assert "line" in (row.error or "")
