"""A call whose answer was lost is known when it is repeated: nothing is accepted, settled or leased twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

import fourlane
from fourlane import Backoff, Task
from fourlane.queues.broker import RedisBroker
from tests.conftest import served_at
from tests.proxy import FaultyProxy
from tests.servers import eventually
from tests.worker.conftest import RunWorker


def test_an_enqueue_whose_reply_is_lost_is_one_job(behind: RedisBroker, proxy: FaultyProxy) -> None:
    @fourlane.task
    def noted() -> None: ...

    noted.send()
    proxy.drop_next_reply(containing=b"EVALSHA")
    noted.send()
    key = behind.store.service("default").ready[1]
    assert behind.store.connector.command(key, "LLEN", key) == 2


def test_a_turn_whose_reply_is_lost_loses_nothing(
    behind: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker
) -> None:
    ran: list[int] = []

    @fourlane.task
    def noted(number: int) -> None:
        ran.append(number)

    noted.send_many([[number] for number in range(20)])
    proxy.drop_next_reply(containing=b"EVALSHA")
    run_worker(behind, slots=2)
    proxy.wait_dropped()
    eventually(lambda: set(ran) == set(range(20)))
    behind.join("default", timeout=10_000)


def test_jobs_of_a_lost_reply_come_back_when_the_server_stays_away_for_a_while(
    behind: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker
) -> None:
    """Redis leased them to this worker, which never heard of it, and the first question what it holds fails too."""
    ran: list[int] = []

    @fourlane.task
    def noted(number: int) -> None:
        ran.append(number)

    noted.send_many([[number] for number in range(20)])
    proxy.drop_next_reply(containing=b"EVALSHA")
    loop = run_worker(behind, slots=2)
    proxy.wait_dropped()
    proxy.refuse()
    eventually(lambda: loop.recovery.failures >= 3)
    proxy.accept()
    eventually(lambda: set(ran) == set(range(20)))


def test_a_retry_is_in_time_when_nobody_heard_when_it_is_due(
    behind: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker
) -> None:
    """The answer that tells of its moment was lost, and idle workers look at what is due every 20 s only."""
    runs = 0

    @fourlane.task(backoff=Backoff(1, 1))
    def again(first_fails: bool) -> None:
        nonlocal runs
        runs += 1
        if first_fails and runs == 2:
            raise ValueError("again")

    # With one slot it does not wait in Redis while a job runs: a wait that is cut off makes it look.
    loop = run_worker(behind, slots=1)
    again.send(False)
    eventually(lambda: runs and not loop.services[0].held and loop.waits.armed())
    proxy.drop_next_reply(containing=b"\r\nretry\r\n")
    again.send(True)
    proxy.wait_dropped()
    eventually(lambda: runs == 3)


def test_of_many_calls_whose_answers_are_lost_each_counts_once(
    redis_url: str, namespace: str, broker: RedisBroker, behind: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker
) -> None:
    """A producer hears of nothing until its jobs are done; its two workers lose every tenth answer."""
    ran: Counter[str] = Counter()

    def note(name: str) -> None:
        ran[name] += 1
        if "retried" in name and ran[name] == 1:
            raise ValueError("again")

    def ran_once(name: str) -> None:
        eventually(lambda: ran[name])

    def declare(service: str, broker: RedisBroker) -> Task[[str], None]:
        return fourlane.task(service=service, name=f"note_{service}", broker=broker, backoff=Backoff(1, 1))(note)

    server = urlsplit(redis_url)
    with (
        FaultyProxy(server.hostname or "", server.port or 0) as between,
        # It waits for its answer as long as the jobs take: workers that lose answers pause, longer each time.
        served_at(f"{between.url(redis_url)}?socket_timeout=60", namespace=namespace) as producer,
    ):
        tasks = [declare(service, producer) for service in ("one", "two") if declare(service, behind)]
        for _ in range(2):
            run_worker(behind, "one", "two", slots=2)
        proxy.drop_replies(0.1, seed=7)
        for number in range(4):
            for task in tasks:
                lone, *many, late = (f"{task.actor_name}-{number}-{n}" for n in ("lone", "retried", "many", "late"))
                calls: list[tuple[str, Callable[[], object]]] = [
                    (lone, partial(task.send, lone)),
                    (many[1], partial(task.send_many, [[name] for name in many])),
                    (late, partial(task.send_with_options, args=[late], delay=1)),
                ]
                for name, call in calls:
                    if number:  # the first load what all need
                        between.drop_next_reply(b"EVALSHA", then=partial(ran_once, name))
                    call()
                    if number:
                        between.wait_dropped()
        proxy.heal()
        keys = [broker.store.service(service) for service in ("one", "two")]
        eventually(lambda: not any(broker.client.hlen(key.jobs) for key in keys))
    assert len(ran) == 32
    assert {name: runs for name, runs in ran.items() if runs != 1 + ("retried" in name)} == {}
