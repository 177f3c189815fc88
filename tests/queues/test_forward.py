"""The backlog of dramatiq's own RedisBroker becomes jobs."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
from click.testing import CliRunner
from dramatiq.brokers.redis import RedisBroker as TheirBroker
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend

from fourlane.cli import main
from fourlane.queues.broker import RedisBroker
from fourlane.queues.forward import BacklogInUse, forward, queues_left
from tests.servers import eventually
from tests.worker.conftest import RunWorker
from tests.worker.conftest import run_worker as run_worker


@pytest.fixture
def theirs(redis_url: str, namespace: str) -> Iterator[TheirBroker]:
    broker = TheirBroker(url=redis_url, namespace=f"{namespace}-theirs")
    yield broker
    broker.close()


def long_ago(broker: TheirBroker) -> None:
    broker.client.delete(f"{broker.namespace}:__heartbeats__")


def declare(broker: Any, seen: list[tuple[Any, ...]]) -> dict[str, Any]:
    @dramatiq.actor(broker=broker, queue_name="mail.bulk", max_retries=3, min_backoff=1, max_backoff=1)
    def work(*values: object) -> object:
        seen.append(values)
        return values[0]

    @dramatiq.actor(broker=broker)
    def after(value: object) -> None:
        seen.append(("after", value))

    return {"work": work, "after": after}


def test_all_that_waits_moves(broker: RedisBroker, theirs: TheirBroker, run_worker: RunWorker, redis_url: str) -> None:
    seen: list[tuple[Any, ...]] = []
    theirs.add_middleware(Results(backend=StubBackend()))
    old = declare(theirs, [])
    for number in range(3):
        old["work"].send(number)
    dramatiq.pipeline([old["work"].message("pipe"), old["after"].message()], broker=theirs).run()
    soon = time.time() * 1000 + 700
    old["work"].send_with_options(args=("later",), delay=700)
    theirs.enqueue(old["work"].message("retried").copy(options={"retries": 2, "requeue_timestamp": 1}), delay=1)
    theirs.enqueue(old["after"].message("other queue"))
    consumer = theirs.consume("mail.bulk", prefetch=1, timeout=100)
    assert next(consumer).args == (0,)  # and its worker dies
    with pytest.raises(BacklogInUse, match=r"used 0 s ago\. Stop its workers"):
        forward(broker, theirs.client, theirs.namespace, "mail.bulk")
    long_ago(theirs)

    declare(broker, seen)
    result = CliRunner().invoke(
        main, ["forward", "--from", redis_url, "--namespace", theirs.namespace], catch_exceptions=False
    )
    assert (result.exit_code, result.stdout) == (0, "default: 1 job(s)\nmail.bulk: 6 job(s)\n")
    assert queues_left(theirs.client, theirs.namespace) == []
    assert not theirs.client.keys(f"{theirs.namespace}:mail.bulk*.msgs")
    run_worker(broker, "mail-bulk", "default")
    eventually(lambda: len(seen) == 8)
    assert time.time() * 1000 >= soon
    assert [values for values in seen if values[0] in (0, 1, 2)] == [(1,), (2,), (0,)]  # 0 had been taken out
    assert {values[0] for values in seen} == {0, 1, 2, "pipe", "later", "retried", "after"}
    assert sorted(values for values in seen if values[0] == "after") == [("after", "other queue"), ("after", "pipe")]


def test_there_may_be_nothing(broker: RedisBroker, namespace: str) -> None:
    result = CliRunner().invoke(main, ["forward", "--namespace", f"{namespace}-none"], catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (0, f"nothing is left of dramatiq's under {namespace}-none:\n")


def test_what_cannot_be_a_job_stays_and_the_rest_moves(
    broker: RedisBroker, theirs: TheirBroker, redis_url: str
) -> None:
    client, key = theirs.client, f"{theirs.namespace}:mail.bulk"
    old = declare(theirs, [])
    odd = {
        b"junk": b"not json",
        b"list": b"[1]",
        b"eta": old["work"].message().copy(options={"eta": "soon"}).encode(),
        b"kwargs": old["work"].message().encode().replace(b'"kwargs":{}', b'"kwargs":7'),
    }
    for message_id, data in odd.items():
        client.hset(f"{key}.msgs", message_id, data)
        client.rpush(key, message_id)
        old["work"].send(1)
    client.hset(f"{theirs.namespace}:no/queue.msgs", "n", old["work"].message().encode())
    old["after"].send(2)
    long_ago(theirs)
    declare(broker, [])
    command = ["forward", "--from", redis_url, "--namespace", theirs.namespace]
    for moved in ((1, 4), (None, 0)):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 1
        first = [] if moved[0] is None else ["default: 1 job(s)"]
        assert result.stdout.splitlines() == [*first, f"mail.bulk: {moved[1]} job(s)", "no/queue: 0 job(s)"]
        *lines, last = result.stderr.splitlines()
        assert [line.split(": ")[:2] for line in lines] == [
            *([f"left in {key}.msgs", message_id.decode()] for message_id in odd),
            [f"left in {theirs.namespace}:no/queue.msgs", "n"],
        ]
        assert lines[0].endswith(": it cannot be decoded as a message of dramatiq's")
        assert last == f"error: 5 message(s) cannot be jobs here and stay under {theirs.namespace}:*.msgs, see above"
        assert client.hgetall(f"{key}.msgs") == odd
        assert client.lrange(key, 0, -1) == list(odd)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://127.0.0.1:1/0", "is the server running, and --from right?"),
        ("foo", "--from"),
        ("redis://127.0.0.1:1/0?nothing=1", "--from"),
        ("", "--from"),
    ],
)
def test_an_address_that_does_not_answer_is_froms(broker: RedisBroker, url: str, words: str) -> None:
    result = CliRunner().invoke(main, ["forward", "--from", url])
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 1
    assert words in line
    assert "REDIS_URL" not in line
