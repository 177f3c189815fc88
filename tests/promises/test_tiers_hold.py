"""Tiers hold across all that a worker serves: the highest waiting tier first, in turns, and none starves."""

from __future__ import annotations

import threading
import time
from collections import Counter
from urllib.parse import urlsplit, urlunsplit

import pytest

import fourlane
from fourlane import codec, job
from fourlane.queues.broker import RedisBroker
from fourlane.worker.loop.loop import Loop
from tests.conftest import StartServer
from tests.servers import eventually
from tests.worker.conftest import RunWorker
from tests.worker.gates import Gate, declare, has_heard
from tests.worker.gates import gate as gate


def queue_of(broker: RedisBroker, service: str, tier: int) -> int:
    return int(broker.client.llen(broker.store.service(service).ready[tier]))


def test_an_urgent_job_of_another_service_comes_before_a_backlog(
    broker: RedisBroker, run_worker: RunWorker, gate: Gate
) -> None:
    bulk, urgent = declare(gate, "bulk", "P2"), declare(gate, "urgent", "P0")
    loop = run_worker(broker, "bulk", "urgent", slots=2)
    bulk.send_many([["bulk"] for _ in range(60)])
    eventually(lambda: len(gate.begun) == 2)
    for _ in range(3):
        assert gate.step() == "bulk"
        urgent.send("urgent")
        eventually(lambda: has_heard(loop, "urgent", "0"))
        assert gate.step() == "urgent"


def test_tiers_come_in_their_order_and_services_of_one_tier_take_turns(
    broker: RedisBroker, run_worker: RunWorker, gate: Gate
) -> None:
    tiers = ("P0", "P1", "P2", "P3")
    tasks = {(s, t): declare(gate, s, t) for s in "abc" for t in tiers}
    hold = declare(gate, "hold", "P0")
    loop = run_worker(broker, *"abc", "hold", slots=1)
    hold.send("hold")
    eventually(lambda: gate.begun == ["hold"])
    for tier in reversed(tiers):
        for service in "abc":
            tasks[service, tier].send_many([[f"{tier} {service}"] for _ in range(8)])
    eventually(lambda: all(has_heard(loop, service, "0") for service in "abc"))
    order = [gate.step() for _ in range(96)]
    assert [name[:2] for name in order] == [tier for tier in tiers for _ in range(24)]
    for start in range(0, 96, 24):
        # That a service has jobs of a lower tier is heard when its higher ones are done: some steps late. And what was
        # leased as the round before ended may come a step out of turn.
        got = Counter[str]()
        for name in order[start : start + 15]:
            got[name] += 1
            assert max(got.values()) - (min(got.values()) if len(got) == 3 else 0) <= 3, order[start : start + 24]


@pytest.mark.parametrize("services", [("one",), ("one", "two", "three")])
def test_a_tier_past_its_target_gets_its_share_within_a_second(
    broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, services: tuple[str, ...]
) -> None:
    """One service or several; the target is shortened, the rest is as it is."""
    monkeypatch.setitem(lane_targets(), "1", 300)
    ended = threading.Event()
    ran: list[tuple[str, float]] = []

    def busy(_: int) -> None:
        time.sleep(0.002)

    urgent = [fourlane.task(name=f"busy-{s}", service=s, tier="P0")(busy) for s in services]

    @fourlane.task(service=services[-1], tier="P1")
    def patient(sent_at: float) -> None:
        ran.append(("patient", time.monotonic() - sent_at))
        if len(ran) == 10:
            ended.set()

    run_worker(broker, *services, slots=2)
    for task in urgent:
        task.send_many([[n] for n in range(4_000 // len(services))])
    patient.send_many([[time.monotonic()]] * 10)
    assert ended.wait(30)
    assert 0.3 <= ran[0][1] <= 1.3
    assert sum(queue_of(broker, service, 0) for service in services) > 0  # it was not the end of the backlog


def lane_targets() -> dict[str, int]:
    from fourlane.worker.loop import tiers

    return tiers._TARGETS


def test_a_service_that_was_left_out_of_a_wait_is_heard_again(
    broker: RedisBroker, run_worker: RunWorker, gate: Gate
) -> None:
    """While its backlog is worked on nobody listens for it; when that is done, its next job comes at once."""
    bulk = declare(gate, "bulk", "P2")
    loop = run_worker(broker, "bulk", "urgent", "third", slots=2)
    for round_ in range(5):
        before = len(gate.begun)
        bulk.send_many([["bulk"]] * 6)
        eventually(lambda before=before: len(gate.begun) == before + 2)  # type: ignore[misc]
        eventually(lambda: loop.waits.armed())
        gate.let.release(6)
        eventually(lambda before=before: len(gate.begun) == before + 6)  # type: ignore[misc]
        eventually(lambda: not broker.client.hlen(broker.store.service("bulk").jobs))
        started = time.monotonic()
        bulk.send(f"lone {round_}")
        gate.let.release()
        eventually(lambda before=before: len(gate.begun) == before + 7)  # type: ignore[misc]
        assert time.monotonic() - started < 2


def test_a_user_who_may_not_end_waits_is_served_all_the_same(start_server: StartServer, gate: Gate) -> None:
    server = start_server()
    admin = RedisBroker(url=server.url)
    admin.client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-client")
    parts = urlsplit(server.url)
    broker = RedisBroker(url=urlunsplit(parts._replace(netloc=f"app:secret@{parts.hostname}:{parts.port}")))
    bulk, urgent = (
        fourlane.task(name=name, service=name, tier=tier, broker=broker)(gate.run)
        for name, tier in (("bulk", "P2"), ("urgent", "P0"))
    )
    loop = Loop(broker, [q for task in (bulk, urgent) for q in (task.queue,)], name="w", slots=1, grace_seconds=1)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    try:
        bulk.send_many([["bulk"]] * 5)
        eventually(lambda: len(gate.begun) == 1)
        urgent.send("urgent")
        eventually(lambda: has_heard(loop, "urgent", "0"))
        assert gate.step() == "urgent"
        gate.let.release(10)
        eventually(lambda: len(gate.begun) == 6)
        bulk.send("later")
        eventually(lambda: gate.begun[-1] == "later")
    finally:
        loop.stop()
        gate.let.release(10)
        thread.join(10)


def test_a_tier_past_its_target_gets_a_share(broker: RedisBroker, run_worker: RunWorker) -> None:
    order: list[str] = []

    @fourlane.task(tier="P0")
    def high() -> None:
        order.append("high")
        time.sleep(0.02)

    @fourlane.task(tier="P2")
    def low() -> None:
        order.append("low")

    # A job whose id says that it waits for two minutes; P2's target is one.
    old = job.new_id(2, int(time.time() * 1000) - 120_000)
    broker.store.enqueue("default", 2, (old, codec.encode("low")))
    high.send_many([[]] * 150)
    run_worker(broker, slots=1)
    eventually(lambda: "low" in order)
    assert order.count("high") < 150, "it had to wait for all of the higher tier"


def test_two_busy_services_of_one_tier_keep_no_urgent_job_waiting(broker: RedisBroker, run_worker: RunWorker) -> None:
    done, waited = [0], []
    sends_at = {2_000 * n for n in range(1, 9)}

    @fourlane.task(service="urgent", tier="P0")
    def urgent(after: int) -> None:
        waited.append(done[0] - after)

    def short() -> None:
        done[0] += 1
        if done[0] in sends_at:
            urgent.send(done[0])

    tasks = [fourlane.task(service=name, name=name, tier="P2", broker=broker)(short) for name in ("one", "two")]
    for task in tasks:
        task.send_many([()] * 10_000)
    run_worker(broker, "one", "two", "urgent", slots=8)
    eventually(lambda: len(waited) == len(sends_at), 30)
    assert sorted(waited)[len(waited) // 2] < 2_000, waited
