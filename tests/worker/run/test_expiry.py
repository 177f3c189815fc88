"""Jobs that waited too long."""

from __future__ import annotations

import threading
from typing import Any

import dramatiq
import pytest

from fourlane import codec, job
from fourlane.queues import dead_letters
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.task import Backoff, EnqueuedJob, task
from tests.servers import eventually
from tests.worker.conftest import RunWorker
from tests.worker.ends import dead


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("kind", ["task", "actor"])
def test_age_is_by_redis_s_clock(
    broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, hours: int, kind: str
) -> None:
    from time import time

    ran: list[str] = []
    if kind == "task":
        code: Any = task(name="code", max_age_ms=1_500)(lambda: ran.append("ran"))
    else:
        code = dramatiq.actor(actor_name="code", max_age=1_500)(lambda: ran.append("ran"))
    monkeypatch.setattr("time.time", lambda: time() + 3_600 * hours)
    late = code.send().message_id
    threading.Event().wait(1.6)
    code.send()
    monkeypatch.undo()
    run_worker(broker)
    eventually(lambda: ran)
    expired = EnqueuedJob[Any](broker, broker.queue_of("local.jobs.normal.default"), late)
    assert dead(expired).reason == "expired"
    assert ran == ["ran"]


def test_an_expired_job_can_be_replayed_and_a_delay_is_no_age(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: list[str] = []

    @task(max_age_ms=600, result_ttl_ms=60_000, backoff=Backoff(650, 650, jitter=False))
    def code(fails_first: bool = False) -> str:
        ran.append("ran")
        if fails_first and ran == ["ran"]:
            raise ValueError("again")
        return "ran"

    old = EnqueuedJob[Any](broker, code.queue, job.new_id(1, broker.store.clock.now_ms() - 1_000))
    broker.store.enqueue("default", 1, (old.id, codec.encode("code")))
    run_worker(broker)
    assert dead(old).reason == "expired"
    dead_letters.replay(broker.store, [old.id])
    assert old.result(5) == "ran"
    ran.clear()
    delayed, again = code.send_with_options(delay=650), code.send(True)
    assert (delayed.result(5), again.result(5)) == ("ran", "ran")
    assert len(ran) == 3
