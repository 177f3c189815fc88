"""Nobody reads an encrypted job in Redis, whatever way it came in and however it ends; and nobody writes one there."""

from __future__ import annotations

import asyncio
import base64
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import dramatiq
import msgspec
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

import fourlane
from fourlane import State, codec, crypto, events, outbox
from fourlane.db.engine import Database, open_database
from fourlane.db.models import JobOutbox
from fourlane.errors import (
    AlteredCiphertext,
    EncryptionError,
    FourlaneError,
    InvalidOption,
    JobFailed,
    ResultRefused,
    UnreadableResult,
)
from fourlane.events import catalogue, envelope
from fourlane.events.messages import Message
from fourlane.events.mover import accept
from fourlane.job import id_of_message, new_id
from fourlane.names import Tier
from fourlane.outbox.relay import Relay
from fourlane.queues import browse, dead_letters, ended, schedules
from fourlane.queues.broker import RedisBroker
from fourlane.queues.encrypted_tasks import declare_encrypted
from fourlane.queues.journal import journal_of
from fourlane.queues.make import Draft
from fourlane.queues.results import value_of
from fourlane.queues.store import Store
from fourlane.scheduler import manage
from fourlane.scheduler.declare import add, synchronise
from fourlane.sealing import Seal
from fourlane.tasks import context
from fourlane.tasks.enqueued import EnqueuedJob
from fourlane.tasks.task import Task
from fourlane.webhooks.handlers import enqueue_once
from fourlane.worker.run.begin import Begin
from fourlane.worker.run.run import Run
from tests.raw import in_redis
from tests.servers import eventually
from tests.worker.conftest import RunWorker, run_worker

__all__ = ["run_worker"]

SECRET = "4111-1111-1111-1111"


@pytest.fixture(autouse=True)
def keys() -> Iterator[None]:
    crypto.configure(crypto.Keyring([crypto.new_key()]))
    yield
    crypto.configure(None)


@pytest.fixture
def database(migrated_sqlite_url: str) -> Iterator[Database]:
    opened = open_database(migrated_sqlite_url)
    yield opened
    opened.close()


class World(NamedTuple):
    """Where a way in begins."""

    broker: RedisBroker
    charge: Task[Any, Any]
    plain: Task[Any, Any]
    database: Database


# The ways in ------------------------------------------------------------------------------------------------------


def send(world: World) -> None:
    world.charge.send(SECRET)


def send_named(world: World) -> None:
    world.charge.send_with_options(kwargs={"card": SECRET}, tenant="acme", tier="P0", max_retries=1)


def send_many(world: World) -> None:
    world.charge.send_many([[SECRET], {"card": SECRET}], tenant="acme")


def asend(world: World) -> None:
    asyncio.run(world.charge.asend(SECRET))


def delayed(world: World) -> None:
    world.charge.send_with_options(args=[SECRET], delay=20)


def at_a_time(world: World) -> None:
    world.charge.send_with_options(args=[SECRET], eta=datetime.now(UTC) + timedelta(milliseconds=20))


def message(world: World) -> None:
    sent = world.charge.message(SECRET)
    world.broker.enqueue(sent)
    world.broker.enqueue(sent)  # another job of it, under an id of its own


def through_middleware(world: World) -> None:
    class Hears(dramatiq.Middleware):
        def before_enqueue(self, broker: Any, message: Any, delay: Any) -> None: ...

    world.broker.add_middleware(Hears())
    world.charge.send(SECRET)


def pipeline_of_encrypted(world: World) -> None:
    (world.charge.message(SECRET) | world.charge.message()).run()  # type: ignore[no-untyped-call]


def pipeline_into_encrypted(world: World) -> None:
    (world.plain.message("x") | world.charge.message_with_options(args=[SECRET], pipe_ignore=True)).run()  # type: ignore[no-untyped-call]


def pipeline_into_plain(world: World) -> None:
    (world.charge.message(SECRET) | world.plain.message()).run()  # type: ignore[no-untyped-call]


def callback_of_group(world: World) -> None:
    later = world.charge.message(SECRET).asdict()  # type: ignore[no-untyped-call]
    world.broker.enqueue(
        world.plain.message_with_options(
            args=["x"], group_completion_uuid="none", group_completion_callbacks=[later], pipe_target=later
        )
    )


def on_success(world: World) -> None:
    world.charge.send_with_options(args=[SECRET], on_success=world.plain.actor_name)


def from_outbox(world: World) -> None:
    with Session(world.database.engine) as session, session.begin():
        outbox.enqueue(session, world.charge, SECRET)
        outbox.enqueue_with_options(session, world.charge, args=[SECRET], organization_id=uuid.uuid4(), tenant="")
        outbox.enqueue_with_options(session, world.charge, kwargs={"card": SECRET}, organization_id=uuid.uuid4())
    file = Path(str(world.database.engine.url.database))
    assert all(SECRET.encode() not in part.read_bytes() for part in file.parent.glob(f"{file.name}*"))
    assert Relay(world.database, world.broker.store).drain() == 3


def from_sql(world: World) -> None:
    """What another program wrote, in plain."""
    declare_encrypted(world.broker.store, "default", {"charge": True, "plain": False})  # as workers do
    with Session(world.database.engine) as session, session.begin():
        arguments = msgspec.json.encode([SECRET]).decode()
        session.add(JobOutbox(id=uuid.uuid4(), task="charge", args=arguments, organization_id=uuid.uuid4()))
    assert Relay(world.database, world.broker.store).drain() == 1


def webhook(world: World) -> None:
    enqueue_once(world.charge, [SECRET], key="evt_1")


def event(world: World) -> None:
    name = f"platform.e{uuid.uuid4().hex[:8]}"
    events.on_event(name, encrypt=True, task_name="listen", broker=world.broker)(
        lambda received: world.charge.fn(received.data)
    )
    [handler] = catalogue.handlers()[(queue := catalogue.queue_of(catalogue.parse_event(name, "local"), "local")).event]
    data = msgspec.json.encode(SECRET)
    written = envelope.write(queue.event, data, environment="local", source="/s", version="1", tenant="acme")
    received = Message("1", "1", envelope.wire(written))
    for _ in range(2):  # SQS gives an event twice
        accept(world.broker.store, queue, [handler], [(received, written)])


def schedule(world: World) -> None:
    add(world.charge, "nightly", cron="0 3 * * *", args=[SECRET])
    assert SECRET.encode() not in in_redis(world.broker)
    manage.fire(world.broker.store, "nightly")


def edited_dead_letter(world: World) -> None:
    store, job_id = world.broker.store, new_id(1, 1)
    body = Draft("charge", {}, sealed=True).body(job_id, ["expired"], {})
    letter = {"id": job_id, "queue": "jobs.normal.default", "died_at_ms": 1, "reason": "error"}
    dead_letters.import_(store, [msgspec.json.encode(letter | {"body": msgspec.Raw(body)})])
    dead_letters.edit(store, job_id, args=[SECRET])
    dead_letters.replay(store, [job_id])


WAYS = [
    send, send_named, send_many, asend, delayed, at_a_time, message, through_middleware, pipeline_of_encrypted,
    pipeline_into_encrypted, pipeline_into_plain, callback_of_group, on_success, from_outbox, from_sql, webhook, event,
    schedule, edited_dead_letter,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_nothing_is_readable_before_in_and_after_the_run(
    way: Callable[[World], None], broker: RedisBroker, database: Database, run_worker: RunWorker
) -> None:
    ran: list[str] = []

    @fourlane.task(encrypt=True, result_ttl_ms=60_000)
    def charge(card: str, *more: str) -> str:
        job = fourlane.current_job()
        assert job is not None
        job.progress(0.5, card)
        job.log(card)
        job.write(card)
        assert fourlane.step.call("card", lambda: card) == card
        journal_of(broker.store).flush()
        assert SECRET.encode() not in in_redis(broker)
        ran.append(card)
        return card

    @fourlane.task
    def plain(*args: Any) -> str:
        assert SECRET.encode() not in in_redis(broker)
        return "x"

    way(World(broker, charge, plain, database))
    assert SECRET.encode() not in in_redis(broker)
    run_worker(broker, slots=1)
    eventually(lambda: browse.unfinished(broker.store, "default") == 0)
    assert SECRET in ran
    assert SECRET.encode() not in in_redis(broker)
    assert dead_letters.count(broker.store) == 0


def test_without_keys_nothing_goes_in_plain_and_nothing_is_lost(
    broker: RedisBroker, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOURLANE_ENVIRONMENT", "staging")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")

    @fourlane.task(encrypt=True)
    def charge(card: str) -> None: ...

    add(charge, "nightly", cron="0 3 * * *", args=[SECRET])
    declare_encrypted(broker.store, "default", {"charge": True})
    with Session(database.engine) as session, session.begin():
        session.add(JobOutbox(id=uuid.uuid4(), task="charge", args=f'["{SECRET}"]'))
    ring = crypto.keyring()
    crypto.configure(None)
    for enqueue in (lambda: charge.send(SECRET), lambda: manage.fire(broker.store, "nightly")):
        with pytest.raises(EncryptionError, match="FOURLANE_ENCRYPTION_KEYS"):
            enqueue()
    relay = Relay(database, broker.store)
    relay.drain()
    assert relay.failed == 1
    with Session(database.engine) as session, session.begin():
        failed = session.scalars(select(JobOutbox)).one()
        assert "FOURLANE_ENCRYPTION_KEYS" in str(failed.error)
        failed.failed_at = failed.error = None  # as docs/outbox.md says
    assert SECRET.encode() not in in_redis(broker)
    crypto.configure(ring)
    assert (relay.drain(), relay.relayed) == (1, 1)
    assert manage.fire(broker.store, "nightly")
    assert SECRET.encode() not in in_redis(broker)


NO_ARGUMENTS = [(args, "{}") for args in ("5", "null", '{"a":1}', '"ab"', "[NaN]", "[")] + [("[]", "[1]")]


@pytest.mark.parametrize(("args", "kwargs"), NO_ARGUMENTS)
def test_what_is_no_job_is_not_encrypted(broker: RedisBroker, database: Database, args: str, kwargs: str) -> None:
    declare_encrypted(broker.store, "default", {"charge": True})
    with Session(database.engine) as session, session.begin():
        session.add(JobOutbox(id=uuid.uuid4(), task="charge", args=args, kwargs=kwargs))
    relay = Relay(database, broker.store)
    relay.drain()
    assert (relay.relayed, relay.failed) == (0, 1)
    with Session(database.engine) as session:
        assert "cannot be read" in str(session.scalars(select(JobOutbox)).one().error)


def test_what_was_encrypted_and_is_no_job_is_a_dead_letter(broker: RedisBroker, run_worker: RunWorker) -> None:
    """As an earlier version's relay made them."""

    @fourlane.task(encrypt=True, max_retries=3)
    def charge(card: str) -> None: ...

    job_id = new_id(1, 2)
    sealed = crypto.keyring().encrypt(b"[5,{},{}]", f'job ["{job_id}","charge",""]')
    body = codec.encode("charge", [base64.b64encode(sealed).decode()], {}, {"sealed": 2})
    broker.store.enqueue("default", 1, (job_id, body))
    run_worker(broker)
    eventually(lambda: browse.unfinished(broker.store, "default") == 0)
    info = browse.job(broker.store, job_id)
    assert info.reason == "rejected"
    assert "no job's arguments" in info.detail


def test_no_call_says_that_it_is_sealed(broker: RedisBroker) -> None:
    @fourlane.task
    def plain() -> None: ...

    for send in (plain.send_with_options, lambda **given: broker.enqueue(plain.message_with_options(**given))):
        with pytest.raises(InvalidOption, match="sets this option itself"):
            send(sealed=3)


def test_a_declared_schedule_is_kept_once(broker: RedisBroker) -> None:
    def declare(encrypt: bool) -> Any:
        other = RedisBroker(client=broker.client, namespace=broker.store.namespace)

        @fourlane.cron("0 3 * * *", args=[SECRET])
        @fourlane.task(encrypt=encrypt, broker=other)
        def charge(card: str) -> None: ...

        synchronise(other, 1)
        return schedules.read(broker.store, "default", ["charge"])["charge"]

    kept = declare(True)
    assert kept == declare(True), "nothing is written anew"
    assert SECRET.encode() not in in_redis(broker)
    assert declare(False)[0].args == [SECRET]


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_pipeline_goes_on_whoever_looks_at_its_jobs(
    broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Logs, spans and comparisons may ask for a message before its job is opened."""
    ran: list[Any] = []
    dress = Begin.dress

    def looked_at(begin: Begin, run: Run) -> None:
        assert run.message.args
        dress(begin, run)

    monkeypatch.setattr(Begin, "dress", looked_at)

    @fourlane.task(encrypt=True)
    def charge(*args: Any) -> str:
        ran.append(args)
        return "paid"

    @fourlane.task(encrypt=True)
    async def charge_async(*args: Any) -> str:
        ran.append(args)
        return "paid"

    @fourlane.task
    def plain(*args: Any) -> str:
        ran.append(args)
        return "x"

    paid = charge if kind == "plain" else charge_async
    (plain.message("a") | paid.message("b") | paid.message("c") | plain.message("d")).run()  # type: ignore[no-untyped-call]
    run_worker(broker)
    eventually(lambda: ran == [("a",), ("b", "x"), ("c", "paid"), ("d", "paid")])


def test_no_run_is_looked_at_to_count_free_slots(broker: RedisBroker, run_worker: RunWorker) -> None:
    built: list[bool] = []

    @fourlane.task
    def look() -> None:
        run = context.running.get()
        loop.executor.running_threads()
        built.append(run._built is not None)

    loop = run_worker(broker)
    look.send()
    eventually(lambda: built == [False])


# What it leaves ---------------------------------------------------------------------------------------------------


def test_who_has_the_keys_reads_what_it_leaves(broker: RedisBroker, run_worker: RunWorker) -> None:
    @fourlane.task(encrypt=True, result_ttl_ms=60_000)
    def charge(card: str) -> list[str]:
        job = fourlane.current_job()
        assert job is not None
        job.progress(0.5, card)
        job.log(card)
        job.log("\x01 of a plain job this would begin as a ciphertext does")
        for piece in card:
            job.write(piece)
        return [card]

    sent = charge.send(SECRET)
    run_worker(broker)
    assert sent.result() == [SECRET]
    progress = sent.progress()
    assert progress is not None
    assert progress.text == SECRET
    assert sent.log_lines() == [SECRET, " of a plain job this would begin as a ciphertext does"]
    assert "".join(piece.text for piece in sent.stream(5)) == SECRET
    crypto.configure(crypto.Keyring([crypto.new_key()]))
    for read in (sent.result, sent.progress, sent.log_lines, lambda: list(sent.stream(5))):
        with pytest.raises(EncryptionError, match="not in FOURLANE_ENCRYPTION_KEYS"):
            read()


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_recorded_steps_are_found_again(broker: RedisBroker, run_worker: RunWorker, kind: str) -> None:
    did: list[str] = []

    @fourlane.task(encrypt=True, max_retries=1, backoff=fourlane.Backoff(1, 1), result_ttl_ms=60_000)
    def charge(card: str) -> str:
        fourlane.step.call("charge", did.append, card)
        if len(did) == 1:
            did.append("again")
            raise ValueError(card)
        return "ok"

    @fourlane.task(encrypt=True, max_retries=1, backoff=fourlane.Backoff(1, 1), result_ttl_ms=60_000)
    async def charge_async(card: str) -> str:
        await fourlane.step.run("charge", did.append, card)
        if len(did) == 1:
            did.append("again")
            raise ValueError(card)
        return "ok"

    sent = (charge if kind == "plain" else charge_async).send(SECRET)
    run_worker(broker)
    assert sent.result() == "ok"
    assert did == [SECRET, "again"]


STEPS = {
    "changed": lambda kept: kept[:-1] + bytes([kept[-1] ^ 1]),
    "cut": lambda kept: kept[:20],
    "moved": lambda _: Seal("1another").close("steps", b'{"charge":"6011"}'),
    "plain": lambda _: b'{"charge":"6011"}',
    "garbage": lambda _: b"\xff\x00",
}


@pytest.mark.parametrize(("kind", "encrypt"), [("plain", True), ("async", "accept-plain")])
@pytest.mark.parametrize("tamper", STEPS.values(), ids=STEPS)
def test_recorded_steps_that_were_tampered_with_make_it_a_dead_letter(
    tamper: Callable[[bytes], bytes],
    kind: str,
    encrypt: Literal[True, "accept-plain"],
    broker: RedisBroker,
    run_worker: RunWorker,
) -> None:
    did: list[int] = []

    def tampered() -> None:
        job = fourlane.current_job()
        assert job is not None
        place = broker.store.service("default").records, f"{id_of_message(job.id, Tier.P1)}|s"
        kept = broker.client.hget(*place)
        assert kept, "a step was recorded"
        broker.client.hset(*place, tamper(bytes(kept)))
        did.append(job.attempt)
        raise ValueError("declined")

    @fourlane.task(encrypt=encrypt, max_retries=3, backoff=fourlane.Backoff(1, 1))
    def charge(card: str) -> None:
        fourlane.step.call("charge", lambda: card)
        tampered()

    @fourlane.task(encrypt=encrypt, max_retries=3, backoff=fourlane.Backoff(1, 1))
    async def charge_async(card: str) -> None:
        await fourlane.step.run("charge", lambda: card)
        tampered()

    sent = (charge if kind == "plain" else charge_async).send(SECRET)
    run_worker(broker)
    eventually(lambda: sent.status() is State.DEAD)
    assert did == [1]
    info = sent.info()
    assert info.reason == "rejected"
    assert info.detail.startswith("AlteredSteps: ")
    assert "not kept" not in info.detail


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_of_an_error_its_type_and_place_are_kept(broker: RedisBroker, run_worker: RunWorker, kind: str) -> None:
    told: list[Any] = []

    @fourlane.task
    def hear(message: dict[str, Any], error: dict[str, Any]) -> None:
        assert SECRET.encode() not in in_redis(broker)
        told.append((message["args"], error))

    @fourlane.task(encrypt=True, max_retries=0, result_ttl_ms=60_000, on_failure="hear", on_retry_exhausted="hear")
    def charge(card: str) -> None:
        raise ValueError(f"{card} was declined")

    @fourlane.task(encrypt=True, max_retries=0, result_ttl_ms=60_000, on_failure="hear", on_retry_exhausted="hear")
    async def charge_async(card: str) -> None:
        raise ValueError(f"{card} was declined")

    sent = (charge if kind == "plain" else charge_async).send(SECRET)
    run_worker(broker)
    with pytest.raises(JobFailed, match=r"ValueError .* is not kept: the job is encrypted"):
        sent.result()
    eventually(lambda: len(told) == 2)
    assert [args for args, _ in told] == [[SECRET], [SECRET]] or [args for args, _ in told] == [(SECRET,), (SECRET,)]
    assert {"type": "ValueError", "message": f"{SECRET} was declined"} in [error for _, error in told]
    [error] = sent.info().errors
    assert "in charge" in error.traceback
    assert SECRET.encode() not in in_redis(broker)


def test_a_cancelled_one_tells_its_callbacks_and_nobody_else(broker: RedisBroker, run_worker: RunWorker) -> None:
    told: list[Any] = []

    @fourlane.task
    def hear(message: dict[str, Any], error: dict[str, Any]) -> None:
        assert SECRET.encode() not in in_redis(broker)
        told.append(message["args"])

    @fourlane.task(encrypt=True, on_failure="hear")
    def charge(card: str) -> None: ...

    charge.send(SECRET).cancel()
    assert SECRET.encode() not in in_redis(broker)
    run_worker(broker)
    eventually(lambda: told)
    assert list(told[0]) == [SECRET]
    assert SECRET.encode() not in in_redis(broker)


def test_what_is_kept_opens_in_its_own_job_only() -> None:
    sealed = Seal("1a").close("steps", b"{}")
    assert Seal("1a").open("steps", sealed) == b"{}"
    for other, what in (("1b", "steps"), ("1a", "output")):
        with pytest.raises(EncryptionError, match="belongs elsewhere"):
            Seal(other).open(what, sealed)
    assert Seal("1a").open("steps", b"{}") == b"{}"  # from before
    with pytest.raises(EncryptionError, match="must be"):
        Seal("1a", strict=True).open("steps", b"{}")


# Who writes into Redis --------------------------------------------------------------------------------------------


def swapped(bodies: list[bytes]) -> bytes:
    return bodies[1]


def of_another_tenant(bodies: list[bytes]) -> bytes:
    return bodies[0].replace(b'"acme"', b'"evil"')


def of_no_tenant(bodies: list[bytes]) -> bytes:
    return bodies[0].replace(b'"tenant":"acme",', b"")


def of_another_task(bodies: list[bytes]) -> bytes:
    return bodies[0].replace(b'"charge"', b'"refund"')


def as_of_an_earlier_version(bodies: list[bytes]) -> bytes:
    return bodies[0].replace(b'"sealed":3', b'"sealed":1')


def as_of_the_last_version(bodies: list[bytes]) -> bytes:
    return bodies[0].replace(b'"sealed":3', b'"sealed":2')


def with_another_option(bodies: list[bytes]) -> bytes:
    return bodies[0].replace(b'"max_retries":1', b'"max_retries":9')


def with_a_callback(bodies: list[bytes]) -> bytes:
    return bodies[0].replace(b'"sealed"', b'"on_success":"refund","sealed"')


def with_a_callback_of_failures(bodies: list[bytes]) -> bytes:
    return bodies[0].replace(b'"sealed"', b'"on_failure":"refund","sealed"')


def with_a_later_message(bodies: list[bytes]) -> bytes:
    return bodies[0].replace(b'"sealed"', b'"pipe_target":%s,"sealed"' % msgspec.json.encode(forged("refund")))


def with_a_named_argument(bodies: list[bytes]) -> bytes:
    return bodies[0].replace(b"],{},{", b'],{"card":"6011"},{')


def with_one_more_argument(bodies: list[bytes]) -> bytes:
    return bodies[0].replace(b"],{},{", b',"6011"],{},{')


def forged(task: str) -> dict[str, Any]:
    message = dramatiq.Message[Any]("default", task, ("6011",), {}, {}, uuid.uuid4().hex, 1_795_863_472_172)
    return dict(message.asdict())  # type: ignore[no-untyped-call]


def changed(bodies: list[bytes]) -> bytes:
    head, mark, tail = bodies[0].partition(b'["')
    return head + mark + bytes([tail[30] ^ 1]).join((tail[:30], tail[31:]))


def no_ciphertext(bodies: list[bytes]) -> bytes:
    return b'["charge",["aGVsbG8="],{},{"sealed":3}]'


def not_even_base64(bodies: list[bytes]) -> bytes:
    return '["charge",["%%%\u00e9"],{},{"sealed":3}]'.encode()


def in_plain(bodies: list[bytes]) -> bytes:
    return b'["charge",["6011"]]'


TAMPERINGS = [
    (swapped, "belongs elsewhere"),
    (of_another_tenant, "belongs elsewhere"),
    (of_no_tenant, "belongs elsewhere"),
    (of_another_task, "belongs elsewhere"),
    (as_of_an_earlier_version, "belongs elsewhere"),
    (as_of_the_last_version, "belongs elsewhere"),
    (with_another_option, "belongs elsewhere"),
    (with_a_callback, "belongs elsewhere"),
    (with_a_callback_of_failures, "belongs elsewhere"),
    (with_a_later_message, "belongs elsewhere"),
    (with_a_named_argument, "not the arguments of a sealed job"),
    (with_one_more_argument, "not the arguments of a sealed job"),
    (changed, "belongs elsewhere|no ciphertext of ours|FOURLANE_ENCRYPTION_KEYS"),
    (no_ciphertext, "not encrypted by Fourlane"),
    (not_even_base64, "no ciphertext of ours"),
    (in_plain, "arguments are not encrypted, and 'charge' is declared with encrypt=True"),
]


@pytest.mark.parametrize("worker", ["fourlane", "dramatiq"])
@pytest.mark.parametrize(("tamper", "why"), TAMPERINGS, ids=lambda case: getattr(case, "__name__", ""))
def test_a_body_that_was_tampered_with_is_a_dead_letter(
    tamper: Callable[[list[bytes]], bytes], why: str, worker: str, broker: RedisBroker, run_worker: RunWorker
) -> None:
    ran: list[str] = []

    @fourlane.task(encrypt=True, max_retries=3)
    def charge(card: str) -> None:
        ran.append(card)

    @fourlane.task(encrypt=True, max_retries=3)
    def refund(*args: Any) -> None:
        ran.append(args[0])

    first, second = (charge.send_with_options(args=[card], tenant="acme", max_retries=1) for card in ("5500", "3400"))
    client, keys = broker.client, broker.store.service("default")
    bodies = [bytes(client.hget(keys.jobs, sent.id)) for sent in (first, second)]
    client.hset(keys.jobs, first.id, tamper(bodies))
    with running(broker, worker, run_worker):
        eventually(lambda: first.status() is State.DEAD)
        eventually(lambda: browse.unfinished(broker.store, "default") == 0)
    assert ran == ["3400"]
    info = first.info()
    assert info.reason == "rejected"
    assert re.search(why, info.detail)


def pipeline(message: dict[str, Any]) -> dict[str, Any]:
    return {"pipe_target": message}


def pipeline_behind_another(message: dict[str, Any]) -> dict[str, Any]:
    return {"pipe_target": forged("plain") | {"options": {"pipe_target": message}}}


def group(message: dict[str, Any]) -> dict[str, Any]:
    return {"group_completion_uuid": "u", "group_completion_callbacks": [message]}


def callback(option: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda message: {option: message["actor_name"]}


LATER = {
    "a pipeline": pipeline,
    "a pipeline behind another": pipeline_behind_another,
    "a group": group,
    "on_success": callback("on_success"),
    "on_failure": callback("on_failure"),
    "on_retry_exhausted": callback("on_retry_exhausted"),
}


@pytest.mark.parametrize("worker", ["fourlane", "dramatiq"])
@pytest.mark.parametrize("place", ["body", "record"])
@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
def test_no_plain_job_has_an_encrypted_task_run(
    later: Callable[[dict[str, Any]], dict[str, Any]],
    place: str,
    worker: str,
    broker: RedisBroker,
    run_worker: RunWorker,
) -> None:
    ran: list[Any] = []

    @fourlane.task(encrypt=True)
    def charge(*args: Any) -> None:
        ran.append(args)

    @fourlane.task(max_retries=0)
    def plain(card: str) -> str:
        if not later({"actor_name": ""}).keys().isdisjoint(("on_failure", "on_retry_exhausted")):
            raise ValueError(card)
        return card

    sent = plain.send_with_options(args=["6011"], max_retries=0)
    options = later(forged("charge"))
    client, keys = broker.client, broker.store.service("default")
    if place == "body":
        client.hset(keys.jobs, sent.id, codec.encode("plain", ["6011"], {}, options | {"max_retries": 0}))
    else:
        client.hset(keys.records, sent.id, msgspec.json.encode({"options": options}))
        client.lset(keys.ready[Tier.P1], 0, f"{sent.id}|r")
    with running(broker, worker, run_worker):
        eventually(lambda: browse.unfinished(broker.store, "default") == 0)
    assert not ran
    if place == "body":
        info = sent.info()
        assert info.reason == "rejected"
        assert "its options name 'charge', which is declared with encrypt=True" in info.detail


def test_nobody_tells_an_encrypted_callback_of_an_end_that_he_made_up(
    broker: RedisBroker, run_worker: RunWorker
) -> None:
    ran: list[Any] = []

    @fourlane.task(encrypt=True)
    def charge(*args: Any) -> None:
        ran.append(args)

    @fourlane.task
    def plain(card: str) -> None: ...

    carried = codec.encode("plain", ["6011"], {}, {"on_failure": "charge"})
    broker.store.enqueue("default", 1, (told := new_id(1, 1), ended.body_of_cancelled("1a", "it was", carried)))
    run_worker(broker)
    eventually(lambda: browse.unfinished(broker.store, "default") == 0)
    assert not ran
    info = browse.job(broker.store, told)
    assert info.reason == "rejected"
    assert "its options name 'charge'" in info.detail


def through_an_option(plain: Task[Any, Any], database: Database, store: Store) -> None:
    plain.send_with_options(args=[SECRET], on_success="charge")


def through_the_outbox(plain: Task[Any, Any], database: Database, store: Store) -> None:
    with Session(database.engine) as session, session.begin():
        outbox.enqueue_with_options(session, plain, args=[SECRET], on_success="charge")
    assert Relay(database, store).drain() == 1


def through_sql(plain: Task[Any, Any], database: Database, store: Store) -> None:
    declare_encrypted(store, "default", {"charge": True, "plain": False})
    arguments, options = f'["{SECRET}"]', '{"on_success":"charge"}'
    with Session(database.engine) as session, session.begin():
        session.add(JobOutbox(id=uuid.uuid4(), task="plain", args=arguments, options=options))
    assert Relay(database, store).drain() == 1


@pytest.mark.parametrize("way", [through_an_option, through_the_outbox, through_sql], ids=lambda way: way.__name__)
def test_a_program_names_an_encrypted_callback(
    way: Callable[[Task[Any, Any], Database, Store], None],
    broker: RedisBroker,
    database: Database,
    run_worker: RunWorker,
) -> None:
    ran: list[Any] = []

    @fourlane.task(encrypt=True)
    def charge(message: dict[str, Any], result: str) -> None:
        ran.append(result)

    @fourlane.task
    def plain(card: str) -> str:
        return card

    way(plain, database, broker.store)
    assert SECRET.encode() not in in_redis(broker)
    run_worker(broker)
    eventually(lambda: ran == [SECRET])


class running:
    """A worker of this kind, meanwhile."""

    def __init__(self, broker: RedisBroker, kind: str, run_worker: RunWorker) -> None:
        self.worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=1) if kind == "dramatiq" else None
        self.run = lambda: run_worker(broker)

    def __enter__(self) -> None:
        if self.worker is None:
            self.run()
        else:
            self.worker.start()

    def __exit__(self, *_: object) -> None:
        if self.worker is not None:
            self.worker.stop()


ANSWERS: list[tuple[bytes, type[FourlaneError]]] = [
    (b'{"value":"forged"}', AlteredCiphertext),
    (b'{"value":"forged","sealed":null}', AlteredCiphertext),
    (b'{"refused":"forged","error":"forged"}', AlteredCiphertext),
    (b'{"sealed":"AAAA"}', AlteredCiphertext),
    ('{"sealed":"\u00e9"}'.encode(), AlteredCiphertext),
    (b"{}", AlteredCiphertext),
    (b'{"error":"forged"}', JobFailed),  # which scripts write too
    (b'{"sealed":5}', UnreadableResult),
    (b'{"error":5}', UnreadableResult),
    (b"[1]", UnreadableResult),
    (b"\xff\xfe", UnreadableResult),
    (b"[" * 100_000, UnreadableResult),
    (b"", UnreadableResult),
]


@pytest.mark.parametrize(("answer", "error"), ANSWERS, ids=[repr(answer)[:30] for answer, _ in ANSWERS])
def test_nobody_answers_in_the_place_of_the_job(answer: bytes, error: type[FourlaneError]) -> None:
    with pytest.raises(error):
        value_of("1a", answer, is_sealed=True)


def test_an_answer_of_another_job_is_none() -> None:
    ring = crypto.keyring()
    of_another = base64.b64encode(ring.encrypt(b'"x"', "result of job 1b")).decode()
    of_the_task = base64.b64encode(ring.encrypt(b'"x"', "result:charge")).decode()  # an earlier version's
    for answer in ({"sealed": of_another}, {"sealed": of_the_task, "task": "charge"}):
        with pytest.raises(AlteredCiphertext, match="belongs elsewhere"):
            value_of("1a", msgspec.json.encode(answer), is_sealed=True)
    assert value_of("1a", msgspec.json.encode({"sealed": of_the_task, "task": "charge"})) == "x"


@pytest.mark.parametrize("encrypt", [True, "accept-plain"])
def test_nothing_in_plain_is_believed(
    broker: RedisBroker, database: Database, encrypt: Literal[True, "accept-plain"]
) -> None:
    """Who may write to Redis cannot speak in the place of the job."""

    @fourlane.task(encrypt=encrypt, result_ttl_ms=60_000)
    def charge(card: str) -> str: ...

    [many] = charge.send_many([["card"]])
    with Session(database.engine) as session:
        relayed = outbox.enqueue(session, charge, "card")
    for sent in (charge.send("card"), charge.send_with_options(args=["card"], delay=60_000), many, relayed):
        forge(broker, sent)
        for read in (sent.result, sent.progress, sent.log_lines, lambda sent=sent: next(sent.stream(5))):
            with pytest.raises(AlteredCiphertext, match="must be"):
                read()
    unknown: EnqueuedJob[Any] = EnqueuedJob(broker, charge.queue, many.id)
    assert unknown.result() == "forged"
    told = unknown.progress()
    assert told is not None
    assert (told.text, unknown.log_lines(), next(unknown.stream(5)).text) == ("forged", ["forged"], "forged")
    for read in (
        lambda: EnqueuedJob(broker, charge.queue, many.id, is_sealed=True).result(),
        lambda: EnqueuedJob(broker, charge.queue, many.id, is_sealed=True).progress(),
    ):
        with pytest.raises(AlteredCiphertext, match="must be"):
            read()


def forge(broker: RedisBroker, job: EnqueuedJob[Any]) -> None:
    keys, stored = broker.store.service("default"), id_of_message(job.id, job.queue.tier)
    broker.client.rpush(keys.result(stored), b'{"value":"forged"}')
    broker.client.set(keys.progress(stored), b'{"done":1.0,"text":"forged"}')
    broker.client.rpush(keys.log(stored), b"forged")
    broker.client.xadd(keys.output(stored), {"run": "a", "text": "forged"})


def test_garbage_in_the_place_of_what_a_job_says_is_told(broker: RedisBroker) -> None:
    @fourlane.task(result_ttl_ms=60_000)
    def plain() -> str: ...

    sent = plain.send()
    keys, stored = broker.store.service("default"), id_of_message(sent.id, sent.queue.tier)
    broker.client.rpush(keys.result(stored), b"\xff")
    broker.client.set(keys.progress(stored), b"\xff")
    broker.client.xadd(keys.output(stored), {"run": "a"})
    for read, what in ((sent.result, "result"), (sent.progress, "progress"), (lambda: next(sent.stream(5)), "output")):
        with pytest.raises(UnreadableResult, match=rf"job {stored}'s {what} cannot be read"):
            read()


def test_that_a_result_is_refused_is_proved_too(broker: RedisBroker, run_worker: RunWorker) -> None:
    @fourlane.task(encrypt=True, result_ttl_ms=60_000)
    def charge(card: str) -> Any:
        return {card}

    sent = charge.send(SECRET)
    run_worker(broker)
    with pytest.raises(ResultRefused, match="InvalidArguments"):
        sent.result()
    assert sent.status() is State.DONE
    assert SECRET.encode() not in in_redis(broker)


def test_jobs_from_before_the_encryption_run_where_that_is_said(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: list[str] = []

    @fourlane.task(encrypt="accept-plain", result_ttl_ms=60_000)
    def charge(card: str) -> str:
        ran.append(card)
        return card

    sent = charge.send("new")
    broker.store.enqueue("default", 1, (new_id(1, 1), codec.encode("charge", ["old"])))
    assert b'"new"' not in in_redis(broker)
    run_worker(broker)
    eventually(lambda: sorted(ran) == ["new", "old"])
    assert sent.result() == "new"


def test_no_ciphertext_is_taken_for_arguments_in_plain(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: list[str] = []

    @fourlane.task(encrypt="accept-plain", max_retries=3)
    def charge(card: str) -> None:
        ran.append(card)

    sent = charge.send(SECRET)
    client, keys = broker.client, broker.store.service("default")
    client.hset(keys.jobs, sent.id, bytes(client.hget(keys.jobs, sent.id)).replace(b',{},{"sealed":3}', b""))
    run_worker(broker)
    eventually(lambda: sent.status() is State.DEAD)
    assert not ran
    assert sent.info().reason == "rejected"


def test_jobs_that_an_earlier_version_encrypted_run(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: list[str] = []

    @fourlane.task(encrypt=True)
    def charge(card: str) -> None:
        ran.append(card)

    sealed = crypto.keyring().encrypt(msgspec.json.encode((["old"], {})), "arguments:charge")
    body = codec.encode("charge", [base64.b64encode(sealed).decode()], {}, {"sealed": 1})
    broker.store.enqueue("default", 1, (new_id(1, 1), body))
    job_id = new_id(1, 2)
    sealed = crypto.keyring().encrypt(msgspec.json.encode((["last"], {}, {})), f'job ["{job_id}","charge","acme"]')
    options = {"tenant": "acme", "max_retries": 1, "sealed": 2}
    body = codec.encode("charge", [base64.b64encode(sealed).decode()], {}, options)
    broker.store.enqueue("default", 1, (job_id, body))
    run_worker(broker)
    eventually(lambda: sorted(ran) == ["last", "old"])
