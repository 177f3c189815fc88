"""AI calls in a handler that runs straight from SQS: there is no job, so nothing is recorded; all else holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import fourlane
from examples.ai.provider import Provider
from fourlane.events.envelope import Event
from fourlane.events.names import EventQueue
from fourlane.events.publisher import Publisher
from fourlane.queues.broker import RedisBroker
from fourlane.queues.guards import Budgets
from fourlane.tasks import ai
from fourlane.tasks.ai.money.spent import month_now
from tests.events.conftest import Receive
from tests.servers import eventually
from tests.tasks.ai.conftest import no_clients_left as no_clients_left

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def event(event: str) -> str:
    return event.replace("platform", "audit")


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        ai.configure(ai.AiConfig(api_keys={"openai": "sk-test"}, base_urls=server.base_urls))
        yield server
    ai.configure(None)


def test_a_call_without_a_job_works_unrecorded(
    broker: RedisBroker,
    publisher: Publisher,
    queue: EventQueue,
    event: str,
    run_receivers: Receive,
    provider: Provider,
) -> None:
    answers: list[Any] = []

    @fourlane.on_event(event, through="direct")
    async def summarize(given: Event) -> None:
        assert fourlane.current_job() is not None
        answers.append(await ai.call("summarize", given.data, tenant="acme"))
        if len(answers) == 1:
            raise ValueError("after the call")  # the event comes again

    run_receivers(broker, direct=True)
    publisher.publish(event, "a long text", id="11111111-1111-1111-1111-111111111111")
    eventually(lambda: len(answers) == 2, 30)
    assert [answer["text"] for answer in answers] == ["You said: a long text "] * 2
    keys = [request["headers"]["idempotency-key"] for request in provider.requests]
    assert len(keys) == 2  # paid twice: nothing could record the first one
    assert keys[0] == keys[1]  # but the provider can tell
    eventually(lambda: Budgets(broker.store).look("acme", month_now()).spent > 0)
    assert list(Budgets(broker.store).reservations()) == []
