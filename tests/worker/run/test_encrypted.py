"""Jobs whose arguments and results nobody reads in Redis, keys that are rotated, lost and wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest

import fourlane
from fourlane import Backoff, State, crypto
from fourlane import job as jobs
from fourlane.errors import EncryptionError, InvalidArguments, InvalidOption
from fourlane.queues import dead_letters
from fourlane.queues.broker import RedisBroker
from tests.command import Command
from tests.command import command as command
from tests.raw import in_redis
from tests.servers import eventually
from tests.worker.conftest import RunWorker

AT_ONCE = Backoff(1, 1)
SECRET = "4111-1111-1111-1111"
OLD, NEW = crypto.new_key(), crypto.new_key()


@pytest.fixture(autouse=True)
def keys() -> Iterator[None]:
    crypto.configure(crypto.Keyring([OLD]))
    yield
    crypto.configure(None)


def test_neither_arguments_nor_result_are_readable(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: list[Any] = []

    @fourlane.task(encrypt=True, result_ttl_ms=60_000)
    def charge(card: str, *, note: str) -> str:
        ran.append((card, note))
        return f"charged {card}"

    job = charge.send(SECRET, note=SECRET)
    [many, _] = charge.send_many([{"card": SECRET, "note": "a"}, {"card": SECRET, "note": "b"}])
    later = charge.send_with_options(args=[SECRET], kwargs={"note": "c"}, delay=50)
    assert SECRET.encode() not in in_redis(broker)
    run_worker(broker)
    assert job.result(timeout=10) == f"charged {SECRET}" == many.result(timeout=10) == later.result(timeout=10)
    assert sorted(ran) == sorted((SECRET, note) for note in (SECRET, "a", "b", "c"))
    assert SECRET.encode() not in in_redis(broker)


def test_async_jobs_retries_and_replays(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: list[str] = []

    @fourlane.task(encrypt=True, max_retries=1, backoff=AT_ONCE, result_ttl_ms=60_000)
    async def charge(card: str) -> str:
        await asyncio.sleep(0)
        ran.append(card)
        if len(ran) < 3:
            raise ValueError("declined")
        return "ok"

    job = charge.send(SECRET)
    run_worker(broker)
    eventually(lambda: job.status() is State.DEAD)
    assert SECRET.encode() not in in_redis(broker)
    dead_letters.replay(broker.store, [job.id])
    eventually(lambda: job.status() is State.DONE)
    assert job.result(timeout=10) == "ok"
    assert ran == [SECRET] * 3


def test_what_goes_around_send_is_encrypted_too(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: list[Any] = []

    @fourlane.task(encrypt=True)
    def charge(card: str, *more: str) -> str:
        ran.append((card, *more))
        return card

    broker.enqueue(charge.message(SECRET))
    assert SECRET.encode() not in in_redis(broker)
    (charge.message("a") | charge.message(SECRET)).run()  # type: ignore[no-untyped-call]
    run_worker(broker)
    eventually(lambda: len(ran) == 3)
    assert (SECRET, "a") in ran  # the pipeline's first result went along


def test_under_dramatiqs_own_worker(broker: RedisBroker) -> None:
    ran: list[str] = []

    @fourlane.task(encrypt=True)
    def charge(card: str) -> None:
        ran.append(card)

    broker.declare_queue(charge.message(SECRET).queue_name)
    charge.send(SECRET)
    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=1)
    worker.start()
    try:
        eventually(lambda: ran == [SECRET])
    finally:
        worker.stop()


def test_what_dramatiqs_own_worker_leaves_is_not_readable(broker: RedisBroker) -> None:
    ran: list[Any] = []

    @fourlane.task(encrypt=True, max_retries=1, min_backoff=1, max_backoff=1)
    def charge(card: str) -> str:
        ran.append(card)
        assert SECRET.encode() not in in_redis(broker)
        if ran.count(card) == 1:
            raise ValueError(f"{card} was declined")
        return card

    @dramatiq.actor(broker=broker, max_retries=0)
    def note(*args: Any) -> None:
        assert SECRET.encode() not in in_redis(broker)
        ran.append(args)

    first = charge.message_with_options(args=[SECRET], on_failure="note")
    broker.enqueue(first.copy(options=first.options | {"pipe_target": note.message("n").asdict()}))
    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=1)
    worker.start()
    try:
        eventually(lambda: ("n", SECRET) in ran)
        eventually(lambda: len(ran) == 4)
    finally:
        worker.stop()
    assert SECRET.encode() not in in_redis(broker)


def test_rotated_keys_open_and_a_lost_one_costs_a_retry(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: list[str] = []

    @fourlane.task(encrypt=True, max_retries=50, backoff=Backoff(20, 20))
    def charge(card: str) -> None:
        ran.append(card)

    charge.send("old")
    crypto.configure(crypto.Keyring([NEW]))  # the old key was forgotten
    charge.send("new")
    run_worker(broker)
    eventually(lambda: ran == ["new"])
    crypto.configure(crypto.Keyring([NEW, OLD]))
    eventually(lambda: ran == ["new", "old"])


def test_a_moved_or_changed_ciphertext_does_not_run(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: list[str] = []

    @fourlane.task(encrypt=True, max_retries=0)
    def charge(card: str) -> None:
        ran.append(card)

    @fourlane.task(encrypt=True, max_retries=0)
    def refund(card: str) -> None:
        ran.append(card)

    job = charge.send(SECRET)
    client, keys = broker.client, broker.store.service("default")
    body = client.hget(keys.jobs, job.id)
    client.hset(keys.jobs, job.id, bytes(body).replace(b'"charge"', b'"refund"'))
    run_worker(broker)
    eventually(lambda: job.status() is State.DEAD)
    assert "belongs elsewhere" in job.info().detail
    assert not ran


def test_no_key_no_job(broker: RedisBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    @fourlane.task(encrypt=True)
    def charge(card: str) -> None: ...

    crypto.configure(None)
    monkeypatch.setenv("FOURLANE_ENVIRONMENT", "staging")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    with pytest.raises(EncryptionError, match="FOURLANE_ENCRYPTION_KEYS"):
        charge.send(SECRET)
    with pytest.raises(EncryptionError, match="FOURLANE_ENCRYPTION_KEYS"):
        charge.send_many([[SECRET]])
    with pytest.raises(InvalidArguments, match="set"):
        charge.send({1})  # type: ignore[arg-type]


def test_the_command_line_shows_no_ciphertext_and_edits_with_the_key_only(
    broker: RedisBroker, run_worker: RunWorker, command: Command
) -> None:
    ran: list[str] = []

    @fourlane.task(encrypt=True, max_retries=0)
    def charge(card: str) -> None:
        ran.append(card)
        if card == SECRET:
            raise ValueError("declined")

    job = charge.send(SECRET)
    shown = command("jobs", "show", job.id)
    assert "encrypted" in shown.stdout
    run_worker(broker)
    eventually(lambda: job.status() is State.DEAD)
    refused = command("dead", "edit", job.id, "--args", '["x"]', "--yes")
    assert refused.returncode != 0
    assert "was encrypted with the key" in refused.stderr
    assert "Traceback" not in refused.stderr
    edited = command("dead", "edit", job.id, "--args", '["x"]', "--yes", FOURLANE_ENCRYPTION_KEYS=OLD)
    assert edited.returncode == 0, edited.stderr
    assert "encrypted" in edited.stdout
    dead_letters.replay(broker.store, [job.id])
    eventually(lambda: ran == [SECRET, "x"])


def test_ids_that_others_have_are_replaced(broker: RedisBroker, run_worker: RunWorker, monkeypatch: Any) -> None:
    ran: list[int] = []

    @fourlane.task(encrypt=True)
    def charge(number: int) -> None:
        ran.append(number)

    # The second call's first ids are the first call's last ones.
    numbers = iter([1_000, 0, 1_002, 0, 50_000, 60_000])
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "_random", lambda: next(numbers))
        patch.setattr(charge, "_now_ms", lambda options: 1_764_000_000_000)
        first = charge.send_many([[1], [2], [3], [4]])
        second = charge.send_many([[5], [6], [7]])
    assert len({job.id for job in [*first, *second]}) == 7
    run_worker(broker)
    eventually(lambda: sorted(ran) == [1, 2, 3, 4, 5, 6, 7])


@pytest.mark.parametrize("word", ["yes", 1, None, "accept"])
def test_encrypt_is_one_of_three_words(broker: RedisBroker, word: Any) -> None:
    with pytest.raises(InvalidOption, match="accept-plain"):

        @fourlane.task(encrypt=word)
        def charge() -> None: ...
