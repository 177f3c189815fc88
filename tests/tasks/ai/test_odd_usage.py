"""Whatever a provider says of what an answer took: it is paid for once, kept, and booked."""

from __future__ import annotations

from typing import Any

import pytest

from examples.ai.provider import Provider
from examples.ai.script import Script
from fourlane.queues.broker import RedisBroker
from fourlane.tasks import ai
from fourlane.tasks.ai.paid import paying
from tests.worker.conftest import RunWorker

# Of the Responses API, of chat completions, of Anthropic and of Google.
MODELS = {
    "gpt-6-luna": ("input_tokens", "output_tokens", "output_tokens_details"),
    "openrouter/openai/gpt-6-luna": ("prompt_tokens", "completion_tokens", "completion_tokens_details"),
    "claude-haiku-4.5": ("input_tokens", "output_tokens", "cache_creation"),
    "gemini-2.5-flash": ("promptTokenCount", "candidatesTokenCount", "promptTokensDetails"),
}
ODD: list[Any] = [None, -5, 10**30, 1.5, float("nan"), float("inf"), "12", "x", True, [], {}, [{}], {"a": "b"}]


@pytest.fixture
def asking(asked: Any, broker: RedisBroker, run_worker: RunWorker) -> Any:
    before = ai.generate.broker
    ai.generate.broker = broker
    broker.declare_actor(ai.generate)
    run_worker(broker, "ai")
    yield ai.generate
    ai.generate.broker = before


@pytest.mark.parametrize("model", MODELS)
def test_an_answer_is_paid_for_once_whatever_is_said_of_its_usage(asking: Any, provider: Provider, model: str) -> None:
    for name in (*MODELS[model], "cost"):
        for value in ODD:
            provider.scripts.append(Script(pieces=("hello",), usage={name: value}))
            provider.requests.clear()
            reply = asking.send("hi", model=model).result(20)
            assert (reply["text"], len(provider.requests)) == ("hello", 1), (name, value)
            assert reply["cost_usd"] >= 0, (name, value)


def test_prices_that_fail_on_an_answer_do_not_undo_it(
    asking: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("no such unit")

    monkeypatch.setattr(paying, "charge", fails)
    reply = asking.send("hi").result(20)
    assert (reply["text"], reply["cost_known"], len(provider.requests)) == ("You said: hi ", False, 1)
