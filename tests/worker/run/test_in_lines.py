"""Jobs of tasks that name lines: by every way in, on real workers."""

from __future__ import annotations

import itertools
from typing import Any

import dramatiq
import pytest

import fourlane
from fourlane.errors import InvalidOption
from fourlane.queues import browse
from fourlane.queues.broker import RedisBroker
from fourlane.queues.lines import Line
from tests.servers import eventually
from tests.worker.conftest import RunWorker
from tests.worker.gates import Gate
from tests.worker.gates import gate as gate
from tests.worker.run.test_encrypted import keys as keys


@pytest.mark.parametrize("encrypt", [False, True])
@pytest.mark.usefixtures("keys")
def test_those_of_one_line_run_one_after_the_other(
    broker: RedisBroker, run_worker: RunWorker, gate: Gate, encrypt: bool
) -> None:
    done: list[str] = []

    @fourlane.task(broker=broker, lines=lambda args, kwargs, options: [Line(f"to:{args[0]}", 1)], encrypt=encrypt)
    def deliver(receiver: str) -> None:
        gate.run(receiver)

    @fourlane.task(broker=broker)
    def quick() -> None:
        done.append("quick")

    for _ in range(2):  # two workers
        run_worker(broker, slots=4)
    deliver.send("ada")
    deliver.send_many([["ada"]] * 3)
    deliver.send_with_options(args=["ada"], delay=1)
    broker.enqueue(deliver.message("ada"))
    dramatiq.pipeline([quick.message(), deliver.message_with_options(args=("ada",), pipe_ignore=True)]).run()
    deliver.send("bob")
    eventually(lambda: sorted(gate.begun) == ["ada", "bob"])
    eventually(lambda: browse.services(broker.store)[0].parked == 6)
    for number in range(2, 8):
        gate.let.release()
        eventually(lambda number=number: len(gate.begun) >= number)  # type: ignore[misc]
    gate.let.release(10)
    eventually(lambda: not broker.client.hlen(broker.store.service("default").jobs))
    assert gate.begun.count("ada") == 7
    assert not broker.client.exists(broker.store.service("default").lines)


def test_a_retry_keeps_its_followers_waiting(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: list[tuple[str, int]] = []
    fails = itertools.cycle([True, True, False])

    @fourlane.task(
        broker=broker,
        lines=lambda args, kwargs, options: [Line(f"o:{args[0]}", 1, ordered=True)],
        backoff=fourlane.Backoff(10, 10),
    )
    async def deliver(key: str, number: int) -> None:
        ran.append((key, number))
        if number == 0 and next(fails):
            raise RuntimeError("as planned")

    for _ in range(2):
        run_worker(broker)
    deliver.send_many([["a", 0], ["a", 1], ["b", 5], ["a", 2]])
    eventually(lambda: not broker.client.hlen(broker.store.service("default").jobs))
    assert [number for key, number in ran if key == "a"] == [0, 0, 0, 1, 2]


@pytest.mark.parametrize("lines", [[Line("a b", 1)], [Line("a", 0)]])
def test_wrong_lines_are_refused_where_the_job_is_sent(broker: RedisBroker, lines: Any) -> None:
    task = fourlane.task(name="wrong", broker=broker, lines=lambda args, kwargs, options: lines)(lambda: None)
    with pytest.raises(InvalidOption, match=r"^line "):
        task.send()
    with pytest.raises(InvalidOption, match=r"^line "):
        task.send_many([[], []])
