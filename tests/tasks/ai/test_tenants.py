"""On whose behalf a call is: the job's tenant, whatever way it came in, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import fourlane
from examples.ai.provider import Provider
from fourlane import outbox
from fourlane.errors import InvalidArguments, JobFailed
from fourlane.queues.broker import RedisBroker
from fourlane.queues.guards import Budgets
from fourlane.tasks import ai
from fourlane.tasks.ai.money.spent import month_now
from tests.worker.conftest import RunWorker


@pytest.fixture
def on_broker(media_tasks: RedisBroker) -> Iterator[RedisBroker]:
    """All tasks of AI calls, on this test's broker."""
    before = ai.generate.broker
    tasks = [ai.generate, ai.summarize]
    for task in tasks:
        task.broker = media_tasks
        media_tasks.declare_actor(task)
    yield media_tasks
    for task in tasks:
        task.broker = before


class Rows:
    """A session of the outbox."""

    def add(self, row: Any) -> None: ...


def _pipeline(kwargs: dict[str, Any], tenant: str) -> None:
    first = ai.generate.message_with_options(args=("hi",), tenant=tenant)
    last = ai.generate.message_with_options(kwargs=kwargs, pipe_ignore=True)
    (first | last).run()


WAYS_OF_A_TENANT: dict[str, Any] = {
    "send": lambda kwargs, tenant: ai.generate.send_with_options(kwargs=kwargs, tenant=tenant),
    "many": lambda kwargs, tenant: ai.generate.send_many([kwargs], tenant=tenant),
    "message": lambda kwargs, tenant: ai.generate.broker.enqueue(
        ai.generate.message_with_options(kwargs=kwargs, tenant=tenant)
    ),
    "pipeline": _pipeline,
    "outbox": lambda kwargs, tenant: outbox.enqueue_with_options(Rows(), ai.generate, kwargs=kwargs, tenant=tenant),
}


@pytest.mark.parametrize("way", WAYS_OF_A_TENANT.values(), ids=WAYS_OF_A_TENANT)
def test_all_ways_in_know_the_tenant(asked: Any, on_broker: RedisBroker, way: Any) -> None:
    asked(budgets_usd={"zero": 0})
    with pytest.raises(InvalidArguments, match="the job is of tenant 'bob'; leave tenant out or say the same"):
        way({"prompt": "hi", "tenant": "alice"}, "bob")
    with pytest.raises(InvalidArguments, match="not of the tenant"):
        way({"prompt": "hi", "files": ["storage:ai/alice/1/x.png"]}, "bob")
    way({"prompt": "hi", "tenant": "bob"}, "bob")
    if way is not _pipeline:  # whose first job has no budget already
        with pytest.raises(InvalidArguments, match="the budget of tenant zero per month is 0"):
            way({"prompt": "hi"}, "zero")


CALLS: list[tuple[Any, Any]] = [
    (ai.image, "a fox"),
    (ai.transcribe, "a.mp3"),
    (ai.speak, "hi"),
    (ai.embed, ["hi"]),
    (ai.moderate, ["hi"]),
    (ai.generate, "hi"),
    (ai.summarize, "hi"),
]


@pytest.mark.parametrize(("called", "given"), CALLS, ids=lambda one: getattr(one, "actor_name", ""))
def test_a_jobs_calls_are_of_its_tenant(
    on_broker: RedisBroker, provider: Provider, run_worker: RunWorker, called: Any, given: Any
) -> None:
    @fourlane.task(result_ttl_ms=10_000)
    async def pays_by_another() -> None:
        await called(given, tenant="alice")

    with pytest.raises(InvalidArguments, match="the job is of tenant 'bob'"):
        called.send_with_options(args=(given,), kwargs={"tenant": "alice"}, tenant="bob")
    run_worker(on_broker)
    job = pays_by_another.send_with_options(tenant="bob")
    with pytest.raises(JobFailed, match="Reject: the job is of tenant 'bob'"):
        job.result(20)
    assert provider.requests == []
    assert Budgets(on_broker.store).look("alice", month_now()).spent == 0
