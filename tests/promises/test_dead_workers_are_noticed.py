"""Dead workers are noticed by their silence; a start, an outage or a standstill is no death."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fourlane.job import State
from fourlane.queues.beat import BEAT_SECONDS, SILENCE_MS
from tests.conftest import StartServer
from tests.proxy import FaultyProxy
from tests.workers import Workers, alive, eventually


def test_a_beat_leaves_the_services_alone_in_which_nothing_is_held(workers: Workers) -> None:
    """Their idle silence is long. Shortened by a beat, they would be taken for dead by the next worker that starts."""
    worker = workers.start("--slots", "2")
    job = workers.send("hold", "a")
    eventually(lambda: workers.said("begun", "a"))
    held, idle = (workers.broker.store.service(service).workers for service in ("default", "maintenance"))

    def dead_at(key: bytes) -> float:
        ((_, score),) = workers.broker.client.zrange(key, 0, -1, withscores=True)
        return float(score) / 1000

    def left(key: bytes) -> float:
        seconds, microseconds = workers.broker.client.time()
        return dead_at(key) - seconds - microseconds / 1e6

    assert left(idle) > 60
    eventually(lambda: left(held) < SILENCE_MS / 1000)
    for _ in range(2):  # it beats for what it holds
        before = dead_at(held)
        eventually(lambda before=before: dead_at(held) > before, 2 * BEAT_SECONDS)  # type: ignore[misc]
    assert left(idle) > 60
    workers.start("--slots", "2")
    assert job.info().crashes == 0
    workers.open_gate("a")
    eventually(lambda: workers.said("done", "a"))
    assert len(workers.said("begun", "a")) == 1
    assert "lost" not in workers.log(worker)


@pytest.mark.timeout(90)
def test_an_outage_of_redis_costs_no_lease(start_server: StartServer, namespace: str, tmp_path: Path) -> None:
    """Longer than the silence that is death. Whoever comes back first takes nobody for dead."""
    server = start_server()
    workers = Workers(server.url, namespace, tmp_path)
    try:
        started = [workers.start("--slots", "3", "--processes", "2") for _ in range(2)]
        names = [f"job{number}" for number in range(10)]
        jobs = [workers.send("hold", name) for name in names]
        eventually(lambda: all(workers.said("begun", name) for name in names))
        server.pause()
        time.sleep(SILENCE_MS / 1000 + 2)  # the outage itself
        server.resume()
        time.sleep(SILENCE_MS / 1000 + 2)  # as long as a wrong reclaim may take to come
        assert [job.info().crashes for job in jobs] == [0] * 10
        for name in names:
            workers.open_gate(name)
        eventually(lambda: all(workers.said("done", name) for name in names))
        assert all(len(workers.said("begun", name)) == 1 for name in names)
        for worker in started:
            assert "reclaimed" not in workers.log(worker)
            assert "stale" not in workers.log(worker)
    finally:
        workers.close()


def test_a_supervisor_that_stands_still_costs_no_lease(workers: Workers) -> None:
    """Its process runs on, and beats for itself, long enough for the silence to be over twice."""
    module = workers.several("one", "two")
    first = workers.start("--slots", "2", module=module)
    jobs = [workers.send(f"hold_{service}", service, service=service) for service in ("one", "two")]
    eventually(lambda: workers.said("begun", "one") and workers.said("begun", "two"))
    second = workers.start("--slots", "2", module=module)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        time.sleep(2 * SILENCE_MS / 1000 + 1)  # the standstill itself
        for job, name in zip(jobs, ("one", "two"), strict=True):
            assert job.info().crashes == 0
            assert len(workers.said("begun", name)) == 1
            workers.open_gate(name)
        eventually(lambda: all(len(workers.said("done", name)) == 1 for name in ("one", "two")))
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert "the supervisor does not beat" in workers.log(first)
    assert all(
        "reclaimed" not in workers.log(worker) and "lost" not in workers.log(worker) for worker in (first, second)
    )


def test_a_worker_that_dies_soon_after_it_started_is_noticed(workers: Workers) -> None:
    """With all its processes, by one that was full as they began to hold leases, and has not looked since."""
    other = workers.start("--slots", "1")
    workers.send("hold", "b")
    eventually(lambda: workers.said("begun", "b"))
    dies = workers.start("--slots", "2", "--processes", "2")
    workers.send("hold", "a")
    (pid,) = eventually(lambda: workers.said("begun", "a"))
    assert pid in workers.children(dies)
    workers.open_gate("b")
    eventually(lambda: workers.said("done", "b"))
    os.killpg(dies.pid, signal.SIGKILL)
    dies.wait()
    eventually(lambda: len(workers.said("begun", "a")) == 2, SILENCE_MS / 1000 + 3)
    workers.open_gate("a")
    assert workers.said("begun", "a")[1] in workers.children(other)


def test_a_half_open_connection_of_the_supervisor_holds_up_what_a_dead_process_held_for_a_moment_only(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    parts = urlsplit(redis_url)
    with FaultyProxy(parts.hostname or "127.0.0.1", parts.port or 6379) as proxy:
        workers = Workers(redis_url, namespace, tmp_path)
        workers.env["REDIS_URL"] = proxy.url(redis_url)
        try:
            worker = workers.start("--slots", "2")
            workers.send("hold", "a")
            (pid,) = eventually(lambda: workers.said("begun", "a"))
            proxy.strand()
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: "died process" in workers.log(worker))
            eventually(lambda: "reclaimed service=default jobs=1" in workers.log(worker), 4)  # a socket waits for 5 s
            eventually(lambda: len(workers.said("begun", "a")) == 2)
            workers.open_gate("a")
        finally:
            workers.close()


def test_code_that_holds_the_interpreter_keeps_its_lease(workers: Workers) -> None:
    workers.start("--slots", "1")
    sent = workers.send("seize", "s", 7)
    eventually(lambda: workers.said("begun", "s"))
    workers.start("--slots", "1")
    eventually(lambda: workers.said("done", "s"), 12)
    eventually(lambda: sent.status() is State.UNKNOWN)
    assert len(workers.said("begun", "s")) == 1


def test_a_killed_process_gives_its_jobs_back_at_once(workers: Workers) -> None:
    supervisor = workers.start("--slots", "2")
    held, other = workers.send("hold", "a"), workers.send("hold", "b")
    first = eventually(lambda: workers.said("begun", "a") and workers.said("begun", "b"))[0]
    os.kill(first, signal.SIGKILL)
    again = eventually(lambda: workers.said("begun", "a")[1:] and workers.said("begun", "b")[1:])[0]
    assert again != first
    assert supervisor.poll() is None
    assert held.info().crashes == other.info().crashes == 1
    for name in "ab":
        workers.open_gate(name)
    eventually(lambda: all(workers.said("done", name) == [again] for name in "ab"))
    eventually(lambda: held.status() is State.UNKNOWN and other.status() is State.UNKNOWN)


def test_a_killed_machine_is_noticed_by_an_idle_worker(workers: Workers) -> None:
    """Supervisor and process die together: nobody reports it, only their silence tells."""
    first = workers.start("--slots", "3")
    sent = [workers.send("hold", name) for name in "abc"]
    eventually(lambda: all(workers.said("begun", name) for name in "abc"))
    second = workers.start("--slots", "3")
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(10)
    eventually(lambda: all(len(workers.said("begun", name)) == 2 for name in "abc"))
    assert [s.info().crashes for s in sent] == [0, 0, 0]  # a silence is no proof against a job
    for name in "abc":
        workers.open_gate(name)
    eventually(lambda: all(len(workers.said("done", name)) == 1 for name in "abc"))
    assert second.poll() is None


def test_processes_do_not_outlive_their_supervisor(workers: Workers) -> None:
    supervisor = workers.start("--slots", "1")
    workers.send("hold", "x")
    child = eventually(lambda: workers.said("begun", "x"))[0]
    assert alive(child)
    supervisor.kill()
    supervisor.wait(10)
    eventually(lambda: not alive(child))
