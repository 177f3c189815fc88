"""How often one may come: in one process, and over all."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fourlane.queues.broker import RedisBroker
from fourlane.queues.guards.senders import KnownSenders
from fourlane.webhooks.gates import Gates
from fourlane.webhooks.rate import Rates
from fourlane.webhooks.refused import Refused
from tests.conftest import StartServer
from tests.servers import Server, eventually
from tests.webhooks.test_receive import broker as broker
from tests.webhooks.test_receive import event, headers, opened_there, receiver


class TestRates:
    def test_it_is_refilled_evenly(self) -> None:
        clock = [1000.0]
        rates = Rates(60, now=lambda: clock[0])
        assert [rates.wait("a") for _ in range(61)] == [0] * 60 + [1]
        clock[0] += 1.5
        assert [rates.wait("a") for _ in range(2)] == [0, 1]
        clock[0] += 3600
        assert [rates.wait("a") for _ in range(61)] == [0] * 60 + [1]

    def test_it_says_when(self) -> None:
        rates = Rates(2, now=lambda: 0.0)
        assert [rates.wait("a") for _ in range(3)] == [0, 0, 30]

    def test_what_is_given_back_does_not_count(self) -> None:
        rates = Rates(1, now=lambda: 0.0)
        for _ in range(3):
            assert rates.wait("a") == 0
            rates.give_back("a")
        rates.give_back("a")
        assert [rates.wait("a") for _ in range(2)] == [0, 60]

    def test_who_is_held_up_waits(self) -> None:
        clock = [1000.0]
        rates = Rates(60, now=lambda: clock[0])
        rates.hold_up("a", 5.0)
        assert rates.wait("a") == 5
        clock[0] += 5
        assert rates.wait("a") == 0

    def test_it_does_not_grow(self) -> None:
        rates = Rates(1)
        for n in range(12_000):
            rates.wait(f"10.{n // 65536}.{n // 256 % 256}.{n % 256}")
        assert len(rates) == 10_000

    def test_no_bound(self) -> None:
        rates = Rates(0)
        assert not any(rates.wait("a") for _ in range(10_000))


def statuses(takers: list[Any], times: int, **options: Any) -> list[int]:
    body = event()
    signed = headers(body)
    return [takers[n % len(takers)].receive("stripe", signed, body, **options).status for n in range(times)]


def test_all_processes_count_together(broker: RedisBroker) -> None:
    takers = [receiver(per_minute=4) for _ in range(3)]
    assert sorted(statuses(takers, 12, address="1.2.3.4:1000")) == [200] * 4 + [429] * 8
    assert statuses(takers, 1, address="1.2.3.4:2000") == [429], "another port is the same sender"
    assert statuses(takers, 1, address="1.2.3.5") == [200]


def test_what_is_remembered_of_a_sender_goes_when_it_makes_no_difference(broker: RedisBroker) -> None:
    known = KnownSenders(broker.store)
    key = broker.store.service("webhooks").rate("a")
    assert [known.wait_ms("webhooks", "a", per_minute=600) for _ in range(3)] == [0, 0, 0]
    assert 0 < broker.client.pttl(key) <= 300
    eventually(lambda: not broker.client.exists(key))
    for _ in range(6):
        known.wait_ms("webhooks", "b", per_minute=6)
    assert 9_000 < known.wait_ms("webhooks", "b", per_minute=6) <= 10_000
    assert broker.client.pttl(broker.store.service("webhooks").rate("b")) <= 60_000


def test_a_flood_is_not_handed_on_to_redis(broker: RedisBroker) -> None:
    asked: list[str] = []

    class Watched(KnownSenders):
        def wait_ms(self, service: str, sender: str, *, per_minute: int) -> int:
            asked.append(sender)
            return super().wait_ms(service, sender, per_minute=per_minute)

    others, here = (Gates({}, 10, 1_000, lambda: Watched(broker.store)) for _ in range(2))
    for _ in range(10):
        others.check("stripe", "1.1.1.1", 1)
    asked.clear()
    for _ in range(200):
        with pytest.raises(Refused, match="too often"):
            here.check("stripe", "1.1.1.1", 1)
    assert len(asked) <= 2


def test_with_redis_away_each_process_counts_for_itself(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server: Server = start_server()
    with opened_there(server.url, "x", monkeypatch):
        taker = receiver(per_minute=3)
        assert taker.admit("stripe", address="1.1.1.1") is None
        server.stop()
        answers = [taker.admit("stripe", address="1.1.1.1") for _ in range(3)]
        assert [answer.status if answer else 200 for answer in answers] == [200, 200, 429]
        started = time.monotonic()
        assert taker.admit("stripe", address="2.2.2.2") is None
        assert time.monotonic() - started < 0.5, "it is not asked again at once"
        assert sum("in this process alone" in record.getMessage() for record in caplog.records) == 1
        server.start()
