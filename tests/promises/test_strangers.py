"""Jobs, tenants and strangers do not touch each other: no state, delay, stop or word of one reaches another."""

from __future__ import annotations

import asyncio
import decimal
import threading
from contextvars import ContextVar
from typing import Any

import dramatiq
import msgspec
import pytest
from dramatiq.middleware import CurrentMessage

from fourlane import JobFailed, State, codec, job
from fourlane.job import new_id
from fourlane.names import Queue, Tier
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.task import EnqueuedJob, task
from tests.servers import eventually
from tests.test_options import WRONG
from tests.worker.conftest import RunWorker
from tests.worker.ends import dead, idle
from tests.workers import Workers


def exits() -> None:
    raise SystemExit(2)


async def child_exits() -> None:
    exits()


async def gathers() -> None:
    await asyncio.gather(child_exits(), asyncio.sleep(1))


async def interrupts() -> None:
    async def child() -> None:
        raise KeyboardInterrupt

    await asyncio.create_task(child())


async def leaves_a_child() -> str:
    kept = asyncio.create_task(child_exits())
    await asyncio.wait([kept])
    return "went on"


async def calls_back() -> str:
    asyncio.get_running_loop().call_soon(exits)
    await asyncio.sleep(0.05)
    return "went on"


async def stops() -> str:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.05)
    return "went on"


@pytest.mark.parametrize(
    ("guilty", "end"),
    [
        (gathers, "SystemExit: 2"),
        (interrupts, "KeyboardInterrupt"),
        (leaves_a_child, None),
        (calls_back, None),
        (stops, None),
    ],
)
def test_no_job_ends_the_event_loop_of_the_others(
    broker: RedisBroker,
    run_worker: RunWorker,
    caplog: pytest.LogCaptureFixture,
    loop_kind: str,
    guilty: Any,
    end: str | None,
) -> None:
    opened: list[asyncio.Event] = []

    async def waits() -> str:
        opened.append(asyncio.Event())
        await opened[0].wait()
        return "waited"

    async def hangs() -> None:
        await asyncio.sleep(30)

    bad = task(name="bad", result_ttl_ms=60_000, max_retries=0)(guilty)
    good = task(name="good", result_ttl_ms=60_000)(waits)
    slow = task(name="slow", result_ttl_ms=60_000, max_retries=0, timeout_ms=300)(hangs)
    worker = run_worker(broker)
    before = good.send()
    eventually(lambda: opened)
    sent, limited = bad.send(), slow.send()
    if end is None:
        assert sent.result(5) == "went on"
    else:
        with pytest.raises(JobFailed, match=end):
            sent.result(5)
    with pytest.raises(JobFailed, match="TimeLimitExceeded"):
        limited.result(5)
    assert worker.executor.loop is not None
    worker.executor.loop.call_soon_threadsafe(opened[0].set)
    assert before.result(5) == "waited"
    assert any("ended the event loop; it goes on" in r.message and r.levelname == "ERROR" for r in caplog.records)
    assert worker.executor.healthy() == ""
    assert ("uvloop" in type(worker.executor.loop).__module__) == (loop_kind == "uvloop")


@pytest.mark.parametrize("kind", ["plain", "async", "plain to await", "async with middleware"])
@pytest.mark.parametrize("at_boot", [False, True])
def test_context_variables_do_not_leak_from_job_to_job(
    broker: RedisBroker, run_worker: RunWorker, at_boot: bool, kind: str
) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="default")

    class Boot(dramatiq.Middleware):
        def after_worker_thread_boot(self, broker: dramatiq.Broker, thread: threading.Thread) -> None:
            if at_boot:
                variable.set("of the thread")

    broker.add_middleware(Boot())
    if "middleware" in kind:
        broker.add_middleware(CurrentMessage())

    def change(how: str) -> list[Any]:
        found = [variable.get(), decimal.getcontext().prec]
        if how == "variable":
            variable.set("of a job")
        elif how == "decimal":
            decimal.getcontext().prec = 3
        return found

    async def change_later(how: str) -> list[Any]:
        await asyncio.sleep(0)
        return change(how)

    function: Any = {"plain": change, "plain to await": lambda how: change_later(how)}.get(kind, change_later)
    changed = task(name="change", result_ttl_ms=60_000)(function)
    run_worker(broker, slots=1)
    of_threads = "of the thread" if at_boot and kind != "async" else "default"
    clean = [of_threads, decimal.DefaultContext.prec]
    assert [changed.send(how).result(5) for how in ("variable", "decimal", "", "")] == [clean] * 4


@pytest.mark.parametrize(("name", "value"), [w for w in WRONG if type(w) is tuple and w[1] == w[1]])
def test_what_a_stranger_wrote_is_rejected_and_harms_nobody(
    broker: RedisBroker, run_worker: RunWorker, name: str, value: Any
) -> None:
    @task(result_ttl_ms=60_000)
    def plain() -> str:
        return "ran"

    @task(result_ttl_ms=60_000)
    async def later() -> str:
        return "ran"

    worker = run_worker(broker, slots=1)
    sent = []
    for made in (plain, later):
        body = msgspec.json.encode([made.actor_name, [], {}, {name: value}])
        job_id = job.new_id(1, 1_700_000_000_000)
        broker.store.enqueue("default", 1, (job_id, body))
        sent.append(EnqueuedJob[Any](broker, made.queue, job_id))
    for each in sent:
        info = dead(each)
        assert info.reason == "rejected"
        assert f"the job's option {name}=" in info.detail
        with pytest.raises(JobFailed, match=name):
            each.result(5)
    assert (plain.send().result(5), later.send().result(5)) == ("ran", "ran")
    eventually(lambda: idle(worker))


WHOSE = """
import contextvars, decimal, logging
import fourlane
from held_tasks import db, me

seen = contextvars.ContextVar("seen", default="")

def tell(name):
    job = fourlane.current_job()
    said = [seen.get(), str(decimal.getcontext().prec), job.tenant]
    seen.set(name)
    decimal.getcontext().prec = 3
    logging.getLogger("mine").warning("line of %s", name)
    db.rpush(f"{me}:whose:{name}", *said)
    if name.startswith("bad"):
        raise ValueError(name)

async def tell_later(name):
    tell(name)

for service in ("one", "two"):
    for task in (tell, tell_later):
        fourlane.task(task, service=service, name=f"{task.__name__}_{service}", max_retries=0)
"""
STRANGE: list[bytes] = [
    b"null",
    b"\xff\xfe",
    b'{"task": "tell_one"}',
    b'["tell_one"',
    b'["tell_one", ["x"], {}, []]',
    b'["tell_one", "x"]',
    codec.encode("tell_one", ["strange", "one too many"]),
    codec.encode("tell_one", options={"max_retries": "3"}),
    codec.encode("tell_later_one", ["strange"], options={"time_limit": -1}),
]


def test_tenants_and_strangers_share_a_process(workers: Workers) -> None:
    """One slot, two services, jobs of three tenants, good and failing, and between them what strangers wrote."""
    (workers.folder / "whose.py").write_text(WHOSE)
    worker = workers.start("--slots", "1", module="whose")
    (pid,) = workers.children(worker)
    store = workers.broker.store
    tenants = ("", "acme", "umbrella/ä")
    sent: dict[str, tuple[EnqueuedJob[Any], str]] = {}
    strange = []
    for number in range(36):
        service, task = ("one", "two")[number % 2], ("tell", "tell_later")[number // 2 % 2]
        name, tenant = f"{'bad' if number % 5 == 0 else 'good'}{number}", tenants[number % 3]
        given = {"tenant": tenant} if tenant else {}
        sent[name] = workers.send(f"{task}_{service}", name, service=service, tier=number % 4, **given), tenant
        if number % 4 == 0:
            tier = Tier(number // 4 % 4)
            job_id = new_id(tier, store.clock.now_ms())
            store.enqueue("one", int(tier), (job_id, STRANGE[number // 4]))
            strange.append(EnqueuedJob[Any](workers.broker, Queue("one", tier), job_id))
    eventually(lambda: [one.status() for one in strange] == [State.DEAD] * len(STRANGE))
    for name, (one, tenant) in sent.items():
        eventually(lambda one=one, name=name: one.status() is (State.DEAD if name.startswith("bad") else State.UNKNOWN))  # type: ignore[misc]
        assert workers.db.lrange(f"{workers.namespace}:whose:{name}", 0, -1) == ["", "28", tenant]
    assert not workers.db.exists(f"{workers.namespace}:whose:strange")
    assert workers.children(worker) == {pid}
    lines = [line for line in workers.log(worker).splitlines() if "line of" in line]
    assert len(lines) == 36
    for line in lines:
        name = line.partition("line of ")[2].split()[0]
        one, tenant = sent[name]
        assert f"job={one.id} " in line
        assert ("tenant=" in line) is bool(tenant)
        assert not tenant or f"tenant={tenant}]" in line
