"""A call whose answer was lost is known when it is repeated: nothing is accepted, settled or leased twice."""

from __future__ import annotations

import fourlane
from fourlane.queues.broker import RedisBroker
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
    eventually(lambda: set(ran) == set(range(20)), 15)
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
    eventually(lambda: loop.recovery.failures >= 3, 10)
    proxy.accept()
    eventually(lambda: set(ran) == set(range(20)), 15)
