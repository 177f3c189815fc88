"""Work that is asked in batches, against a stand-in of OpenAI's and Anthropic's batch APIs; on real workers."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import select

import fourlane
from examples.ai.provider import Provider
from fourlane import State, crypto
from fourlane.db.engine import Database, open_database, sqlite_url
from fourlane.db.models import AiOperationLog, Base
from fourlane.errors import InvalidArguments, JobFailed
from fourlane.queues import control, doctor
from fourlane.queues.broker import RedisBroker
from fourlane.queues.guards import Batches, Places
from fourlane.tasks import ai
from fourlane.tasks.ai.batches.collecting import collect
from fourlane.tasks.ai.batches.shown import shown
from fourlane.tasks.ai.config import configured
from fourlane.tasks.task import EnqueuedJob
from tests.servers import eventually
from tests.worker.conftest import RunWorker
from tests.workers import Workers
from tests.workers import workers as workers

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TASKS = (ai.generate, ai.translate, ai.summarize, ai.analyze)
MODELS = ["gpt-4o", "claude-haiku-4.5"]
Round = Callable[..., bool]


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        yield server


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(sqlite_url(tmp_path / "ai.db"))
    Base.metadata.create_all(opened.engine)
    yield opened
    opened.close()


@pytest.fixture
def set_up(provider: Provider, database: Database) -> Iterator[Callable[..., None]]:
    def to(**options: Any) -> None:
        keys = dict.fromkeys(("openai", "anthropic", "google"), "sk-test")
        given = {"api_keys": keys, "base_urls": provider.base_urls, "database": database} | options
        ai.configure(ai.AiConfig(**given))

    to()
    yield to
    ai.configure(None)


@pytest.fixture
def at_work(broker: RedisBroker, set_up: Any, run_worker: RunWorker) -> Iterator[RedisBroker]:
    """The platform's tasks on this test's broker, and a worker for them."""
    before = ai.generate.broker
    for task in TASKS:
        task.broker = broker
        broker.declare_actor(task)
    run_worker(broker, "ai", "maintenance")
    yield broker
    for task in TASKS:
        task.broker = before


@pytest.fixture
def collecting(at_work: RedisBroker) -> Round:
    """One round of the collector, as a job, by a clock that is so many seconds ahead."""

    @fourlane.task(broker=at_work, service="maintenance", name="collect", max_retries=0, result_ttl_ms=60_000)
    async def collect_now(ahead: float) -> bool:
        def now_ms() -> int:
            return int((time.time() + ahead) * 1000)

        return await collect(at_work.store, configured(), who="test", now_ms=now_ms)

    def run(ahead: float = 100) -> bool:
        return bool(collect_now.send(ahead).result(20))

    return run


def send(prompt: str, model: str = "gpt-4o", *, tenant: str = "acme", **options: Any) -> EnqueuedJob[Any]:
    kwargs = {"prompt": prompt, "model": model, "batch": True} | options
    return ai.generate.send_with_options(kwargs=kwargs, tier="P2", tenant=tenant)


def wait_parked(*jobs: EnqueuedJob[Any]) -> None:
    eventually(lambda: all(job.status() is State.DELAYED for job in jobs))


def rows(database: Database) -> list[AiOperationLog]:
    with database.session() as session:
        return list(session.scalars(select(AiOperationLog)))


@pytest.mark.parametrize("model", MODELS)
def test_answers_come_to_their_jobs_at_half_the_price(
    collecting: Round, at_work: RedisBroker, provider: Provider, database: Database, model: str
) -> None:
    full = ai.generate.send("full price", model=model, tenant="acme").result(20)
    jobs = [send(f"number {n:02}", model, tenant=f"tenant-{n % 3}") for n in range(12)]
    wait_parked(*jobs)
    assert collecting(ahead=0)  # nobody waited long enough
    assert not provider.batches.submitted
    collecting()
    for number, job in enumerate(jobs):
        reply = job.result(20)
        assert reply["text"] == f"You said: number {number:02} "
        assert reply["model"] == full["model"]
        assert reply["cost_usd"] < full["cost_usd"] * 0.6
    assert "".join(piece.text for piece in jobs[0].stream(timeout=5)) == "You said: number 00 "
    assert len(provider.batches.submitted) == 1
    assert set(provider.batches.paid.values()) == {1}
    found = {row.job_id: row for row in rows(database)}
    assert all(found[job.id].status == "ok" for job in jobs)
    spent = ai.spending("tenant-0")
    assert spent["reserved"] == 0
    assert spent["spent"] > 0
    collecting()
    store = Batches(at_work.store, found[jobs[0].id].provider)
    assert not store.open()
    assert not [one for one in doctor.examine(at_work.store, workers=[]) if one.level is doctor.Level.ERROR]


def test_what_cannot_wait_is_refused_where_it_is_sent(at_work: RedisBroker) -> None:
    @ai.tool
    def look_up(word: str) -> str:
        """Look a word up."""
        return word

    with pytest.raises(InvalidArguments, match="P2 and P3"):
        ai.generate.send("now", batch=True)
    with pytest.raises(InvalidArguments, match="P2 and P3"):
        ai.generate.send_many([{"prompt": "now", "batch": True}])
    with pytest.raises(InvalidArguments, match="no batches"):
        send("x", "gemini-2.5-flash")
    with pytest.raises(InvalidArguments, match="tools"):
        send("x", tools=["look_up"])


@pytest.mark.parametrize("model", MODELS)
def test_each_ends_as_its_own_result_says(collecting: Round, provider: Provider, model: str) -> None:
    provider.batches.outcomes = {"expires": "expired", "bad": 400, "overloaded": 529}
    jobs = {prompt: send(prompt, model) for prompt in ("expires", "bad", "overloaded", "good")}
    wait_parked(*jobs.values())
    collecting()
    assert jobs["good"].result(20)["text"] == "You said: good "
    with pytest.raises(JobFailed, match="planned 400"):
        jobs["bad"].result(20)
    provider.batches.outcomes = {"overloaded": "expired"}
    wait_parked(jobs["expires"], jobs["overloaded"])
    collecting()
    half = jobs["expires"].result(20)
    whole = jobs["overloaded"].result(20)  # twice in vain: asked at once
    assert half["cost_usd"] < whole["cost_usd"] * 0.7
    assert provider.batches.paid == {"good": 1, "expires": 1}
    assert provider.answered == 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fate", ["lost", "unheard"])
def test_a_submission_whose_answer_nobody_heard_is_not_paid_twice(
    collecting: Round, set_up: Any, provider: Provider, model: str, fate: str
) -> None:
    set_up(batch_wait_seconds=0)
    setattr(provider.batches, fate, 1)
    jobs = [send(f"number {n}", model) for n in range(3)]
    wait_parked(*jobs)
    for _ in range(4):
        collecting()
    assert [job.result(20)["text"] for job in jobs] == [f"You said: number {n} " for n in range(3)]
    assert provider.batches.paid == {f"number {n}": 1 for n in range(3)}
    assert len(provider.batches.submitted) == 1


def test_a_job_that_is_cancelled_takes_its_request_away_or_pays_for_its_answer(
    collecting: Round, provider: Provider, database: Database
) -> None:
    provider.batches.quick = False
    early, late, other = send("early"), send("late"), send("other")
    wait_parked(early, late, other)
    early.cancel()
    collecting()
    assert [one["body"]["input"][0]["content"] for one in provider.batches.submitted[0].requests] in (
        ["late", "other"],
        ["other", "late"],
    )
    late.cancel()
    provider.batches.release()
    collecting(ahead=1_000)
    assert other.result(20)["text"] == "You said: other "
    eventually(lambda: len(rows(database)) == 2)
    assert {row.job_id for row in rows(database)} == {late.id, other.id}
    assert ai.spending("acme")["reserved"] >= 0
    assert provider.batches.paid == {"late": 1, "other": 1}


def test_a_batch_that_never_ends_is_cancelled_and_its_jobs_ask_at_once(
    collecting: Round, set_up: Any, provider: Provider
) -> None:
    set_up(batch_within_seconds=0)
    provider.batches.quick = False
    job = send("slow")
    wait_parked(job)
    collecting()
    assert provider.batches.submitted[0].state == "cancelled"
    collecting(ahead=1_000)
    assert job.result(20)["text"] == "You said: slow "
    assert provider.answered == 1


def test_lines_at_fault_are_refused_and_the_others_asked_again(collecting: Round, provider: Provider) -> None:
    provider.batches.bad_line = 2
    jobs = [send(f"number {n}") for n in range(3)]
    wait_parked(*jobs)
    collecting()
    eventually(lambda: sum(job.status() is State.DEAD for job in jobs) == 1)
    provider.batches.bad_line = 0
    wait_parked(*(job for job in jobs if job.status() is not State.DEAD))
    collecting()
    texts = [job.result(20)["text"] for job in jobs if job.status() is not State.DEAD]
    assert len(texts) == 2


def test_a_provider_that_is_down_is_waited_for(collecting: Round, provider: Provider) -> None:
    provider.batches.refuse = 429
    job = send("patience")
    wait_parked(job)
    collecting()
    provider.batches.refuse = 0
    eventually(lambda: collecting() and provider.batches.paid)  # it is left alone for a second
    assert job.result(20)["text"] == "You said: patience "
    assert provider.batches.paid == {"patience": 1}


class Died(Exception):
    """All that a process would have done after its death."""


class Mortal:
    """A connector whose process is killed before its call of this number."""

    def __init__(self, connector: Any, calls: int) -> None:
        self._connector, self._left = connector, calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connector, name)
        if name not in ("run", "run_once", "command"):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise Died
            return found(*args, **kwargs)

        return call


@pytest.mark.parametrize("model", MODELS)
def test_a_collector_that_dies_anywhere_loses_nothing_and_pays_nothing_twice(
    at_work: RedisBroker, collecting: Round, set_up: Any, provider: Provider, model: str
) -> None:
    set_up(batch_wait_seconds=0)

    @fourlane.task(broker=at_work, service="maintenance", name="die", max_retries=0, result_ttl_ms=60_000)
    async def die(calls: int, ahead: float) -> bool:
        store = copy.copy(at_work.store)
        mortal = Mortal(store.connector, calls)
        store.connector = mortal  # type: ignore[assignment]
        with contextlib.suppress(Died):
            await collect(store, configured(), who="mortal", now_ms=lambda: int((time.time() + ahead) * 1000))
        at_work.store.connector.command(b"x", "DEL", at_work.store.service("maintenance").places("ai-batches"))
        return mortal._left < 0

    calls, died = 0, True
    while died:
        jobs = [send(f"{n} of {calls}", model) for n in range(2)]
        wait_parked(*jobs)
        died = die.send(calls, 100).result(20)
        aheads = itertools.count(200, 700)
        over = (State.DONE, State.DEAD)
        eventually(lambda: collecting(next(aheads)) and all(job.status() in over for job in jobs))  # noqa: B023
        assert [job.result(20)["text"] for job in jobs] == [f"You said: {n} of {calls} " for n in range(2)]
        calls += 1
    assert calls > 15
    assert len(provider.batches.paid) == 2 * calls
    assert set(provider.batches.paid.values()) == {1}
    assert provider.answered == 0
    collecting(10_000)
    assert not shown(at_work.store)


SOURCE = """
import os, time
import fourlane
from fourlane.tasks import ai
from fourlane.tasks.ai.batches.collecting import collect
from fourlane.tasks.ai.config import configured
from fourlane.tasks.context import current_job, running

@fourlane.task(result_ttl_ms=60_000)
async def ask(prompt):
    return (await ai.call("generate", prompt, batch=True))["text"]

@fourlane.task(max_retries=0)
async def collect_now(ahead):
    def now_ms():
        return int((time.time() + ahead) * 1000)

    await collect(running.get().store, configured(), who=current_job().id, now_ms=now_ms)
"""


def test_real_workers_killed_at_any_time_pay_once(workers: Workers, provider: Provider) -> None:
    (workers.folder / "batched.py").write_text(SOURCE)
    settings = {"base_urls": provider.base_urls, "batch_wait_seconds": 0}
    workers.env |= {"FOURLANE_AI": json.dumps(settings), "OPENAI_API_KEY": "sk-test"}
    jobs = [workers.send("ask", f"number {n}", tier=2) for n in range(8)]
    aheads = itertools.count(100, 100)

    def all_over() -> bool:
        workers.send("collect_now", next(aheads))  # type: ignore[arg-type]
        return all(job.status() not in (State.READY, State.DELAYED, State.RUNNING) for job in jobs)

    process = workers.start("--processes", "1", module="batched")
    for _ in range(2):  # the third death would make those that ran poison
        with contextlib.suppress(AssertionError):
            eventually(all_over, 0.5)
        for child in workers.children(process):
            os.kill(child, signal.SIGKILL)
        eventually(lambda: workers.children(process))
    eventually(all_over, 40)
    assert [job.result(5) for job in jobs] == [f"You said: number {n} " for n in range(8)]
    assert provider.batches.paid == {f"number {n}": 1 for n in range(8)}
    assert provider.answered == 0


def test_requests_and_answers_of_encrypted_jobs_lie_sealed(
    at_work: RedisBroker, collecting: Round, run_worker: RunWorker, redis_url: str
) -> None:
    @fourlane.task(broker=at_work, service="ai", tier="low", encrypt=True, result_ttl_ms=60_000)
    async def ask(prompt: str) -> str:
        return (await ai.call("generate", prompt, batch=True))["text"]

    db = redis.Redis.from_url(redis_url)

    def in_clear() -> list[bytes]:
        found = db.scan_iter(f"{at_work.store.namespace}:*batches.openai*")
        return [key for key in found if b"my secret" in (db.dump(key) or b"")]

    crypto.configure(crypto.Keyring([crypto.new_key()]))
    try:
        job = ask.send("my secret")
        wait_parked(job)
        assert not in_clear()
        control.pause(at_work.store, f"{at_work.store.environment}.jobs.low.ai")
        collecting()
        assert not in_clear()
        control.resume(at_work.store, f"{at_work.store.environment}.jobs.low.ai")
        assert job.result(20) == "You said: my secret "
    finally:
        crypto.configure(None)


def test_one_round_at_a_time(at_work: RedisBroker, collecting: Round) -> None:
    Places(at_work.store).hold("maintenance", "ai-batches", "another", places=1, hold_ms=10_000)
    assert not collecting()


def test_what_the_page_shows_runs(collecting: Round, provider: Provider) -> None:
    page = (Path(__file__).parents[3] / "docs" / "ai-batches.md").read_text()
    [shown] = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    asking = threading.Thread(target=exec, args=(shown, names), daemon=True)
    asking.start()
    for _ in range(20):
        if "job" in names:
            collecting()
        asking.join(0.5)
        if not asking.is_alive():
            break
    assert names["job"].result(1)["text"] == "You said: Hello "
