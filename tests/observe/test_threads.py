"""A line belongs to the job that wrote it, from wherever the job wrote it: many jobs at once, in a real worker."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest

import fourlane
from fourlane.observe import ids, logs, threads
from fourlane.queues.broker import RedisBroker
from tests.servers import eventually
from tests.worker.conftest import RunWorker
from tests.worker.conftest import run_worker as run_worker

Lines = Callable[[], list[dict[str, Any]]]
log = logging.getLogger("shop")


class Thread(threading.Thread):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self.say = say

    def run(self) -> None:
        self.say("a thread's own run()")


def ended(thread: threading.Thread) -> None:
    thread.start()
    thread.join()


def from_threads(say: Callable[[str], None], shared: Executor, old: ThreadPool) -> None:
    ended(threading.Thread(target=say, args=["a thread"]))
    ended(threading.Thread(target=lambda: ended(threading.Thread(target=say, args=["a thread's thread"]))))
    ended(Thread(say))
    ended(threading.Timer(0, say, ["a timer"]))
    with ThreadPoolExecutor(2) as pool:
        pool.submit(say, "an own pool").result()
    shared.submit(say, "a shared pool").result()
    list(shared.map(say, ["a shared pool's map"]))
    barrier = threading.Barrier(2)

    def together(words: str) -> None:
        barrier.wait(20)
        say(words)

    with ThreadPool(2) as own:
        own.map(together, ["one of two at once", "the other"])
    old.apply(say, ["another shared pool"])
    old.map(say, ["its map"])
    old.starmap(say, [["its starmap"]])
    list(old.imap(say, ["its imap"]))
    list(old.imap_unordered(say, ["its imap_unordered"]))


async def from_coroutines(say: Callable[[str], None], shared: Executor) -> None:
    async def one(words: str) -> None:
        await asyncio.sleep(0)
        say(words)

    loop = asyncio.get_running_loop()
    await asyncio.gather(one("one gathered"), one("another gathered"))
    await asyncio.create_task(one("a task"))
    await asyncio.to_thread(say, "to_thread")
    await loop.run_in_executor(None, say, "run_in_executor")
    await loop.run_in_executor(shared, say, "run_in_executor of a shared pool")
    loop.call_soon(say, "call_soon")
    await asyncio.sleep(0)
    await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(one("back in the loop"), loop).result())


@pytest.fixture
def shared() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What was logged, as machines get it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs._Json("shop"))
    log.addHandler(handler)
    log.setLevel("INFO")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    log.removeHandler(handler)
    log.setLevel("NOTSET")


def test_lines_are_of_the_job_that_wrote_them(
    broker: RedisBroker, run_worker: RunWorker, lines: Lines, shared: Executor
) -> None:
    @fourlane.task
    def plain(me: str) -> None:
        from_threads(lambda words: log.info("%s %s", me, words), shared, old)

    @fourlane.task
    async def coroutine(me: str) -> None:
        await from_coroutines(lambda words: log.info("%s %s", me, words), shared)

    threads.follow_threads()
    run_worker(broker, slots=8)
    wrote = {}
    with ThreadPool(2) as old:
        for number in range(12):
            for made in (plain, coroutine):
                me = f"{made.actor_name}-{number}"
                wrote[me] = made.send_with_options(args=(me,), tenant=f"org-{me}").id
        eventually(lambda: len(lines()) == 12 * (14 + 8), 30)
    for line in lines():
        me = line["message"].partition(" ")[0]
        assert line["metadata"]["job"] == wrote[me], line
        assert line["metadata"]["organization_id"] == f"org-{me}", line
        assert line["trace_id"] == f"{ids.trace_id_of(wrote[me], {}):032x}", line


def test_threads_that_serve_all_jobs_are_of_none(
    broker: RedisBroker, run_worker: RunWorker, lines: Lines, shared: Executor
) -> None:
    wake, told = threading.Event(), threading.Event()

    def serve() -> None:
        wake.wait(20)
        log.info("later")
        told.set()

    @fourlane.task
    def first() -> None:
        threading.Thread(target=serve, name="fourlane-test", daemon=True).start()
        shared.submit(log.info, "of the job").result()

    threads.follow_threads()
    run_worker(broker)
    job = first.send()
    eventually(lambda: lines())
    shared.submit(log.info, "of nobody").result()
    wake.set()
    assert told.wait(20)
    assert {line["message"]: line["metadata"].get("job") for line in lines()} == {
        "of the job": job.id,
        "of nobody": None,
        "later": None,
    }
