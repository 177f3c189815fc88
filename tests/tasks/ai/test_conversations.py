"""Conversations, tools and schemas on real workers, against the stand-in: each paid call and each tool runs once."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import fourlane
from examples.ai.provider import Fault, Provider, Script
from fourlane import State
from fourlane.errors import InvalidArguments, Reject, Snooze
from fourlane.queues.broker import RedisBroker
from fourlane.tasks import ai
from tests.servers import eventually
from tests.tasks.ai.test_ai import configured, database, on_broker, provider, run
from tests.worker.conftest import RunWorker

__all__ = ["configured", "database", "on_broker", "provider"]

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MODELS = ["openai/gpt-6-luna", "anthropic/claude-haiku-4-5", "google/gemini-3.8-flash", "openrouter/openai/gpt-6-luna"]
RED_PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAAA="
calls: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    calls.clear()


@ai.tool
async def weather(city: str, days: int = 1) -> dict[str, Any]:
    """The weather of the next days."""
    calls.append(city)
    if city == "Nowhere":
        raise LookupError("there is no such city")
    return {"city": city, "rain": True, "days": days}


@ai.tool
def population(city: str) -> int:
    """How many live there."""
    calls.append(f"people of {city}")
    return 2_000_000


def wants(*cities: str) -> Script:
    return Script(calls=tuple(("weather", {"city": city, "days": 1}) for city in cities))


def sent(provider: Provider, number: int) -> str:
    """What a request said, as text to search."""
    return json.dumps(provider.requests[number]["body"])


@pytest.mark.parametrize("model", MODELS)
def test_a_conversation_of_several_turns(
    configured: Any, on_broker: RedisBroker, provider: Provider, model: str
) -> None:
    messages = [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello Ada!"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is this?"}, {"type": "image", "source": RED_PIXEL}],
        },
    ]
    reply = run(ai.call("generate", messages=messages, model=model, system="Be kind.", temperature=0.5, stop="END"))
    assert reply["text"] == "You said: What is this? "
    body = sent(provider, 0)
    for said in ("My name is Ada.", "Hello Ada!", "What is this?", "Be kind.", RED_PIXEL.partition(",")[2]):
        assert said in body
    assert "END" in body or "gpt" in model  # which reasons, and takes no stop words


@pytest.mark.parametrize("model", MODELS)
def test_tools_are_called_until_the_model_has_its_answer(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider, model: str
) -> None:
    people = ("population", {"city": "Rome"})
    provider.scripts += [wants("Rome", "Oslo"), Script(calls=(people,)), Script(pieces=("Take ", "one."))]
    run_worker(on_broker, "ai")
    job = ai.generate.send("Do I need an umbrella?", model=model, tools=["weather", "population"], tenant="acme")
    reply = job.result(40)
    assert (reply["text"], reply["outcome"], reply["tool_calls"]) == ("Take one.", "ok", [])
    assert sorted(calls) == ["Oslo", "Rome", "people of Rome"]
    assert "".join(piece.text for piece in job.stream(timeout=5)) == "Take one."
    assert len(provider.requests) == 3
    assert reply["cost_usd"] == pytest.approx(ai.spending("acme")["spent"], abs=3e-6)
    last = sent(provider, 2)
    assert "umbrella" in last and "Oslo" in last and "2000000" in last  # noqa: PT018


def test_what_goes_wrong_with_a_tool_is_told_to_the_model(
    configured: Any, on_broker: RedisBroker, provider: Provider
) -> None:
    wrong = Script(calls=(("weather", {"town": "Rome"}), ("weather", {"city": "Nowhere", "days": 1}), ("rain", {})))
    provider.scripts += [wrong, Script(pieces=("Sorry.",))]
    assert run(ai.call("generate", "hi", tools=[weather]))["text"] == "Sorry."
    told = sent(provider, 1)
    for words in ("city: Missing required argument", "LookupError: there is no such city", "there is no tool rain"):
        assert words in told


@pytest.mark.parametrize("more", [{"run_tools": False}, {"tools": [{"name": "weather", "description": "mine"}]}])
def test_the_caller_may_run_tools_and_go_on(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider, more: dict[str, Any]
) -> None:
    provider.scripts.append(wants("Rome"))
    run_worker(on_broker, "ai")
    asked = {"role": "user", "content": "Rain?"}
    reply = ai.generate.send(messages=[asked], **({"tools": ["weather"]} | more)).result(40)
    [call] = reply["tool_calls"]
    assert (reply["outcome"], call["name"], json.loads(call["arguments"])["city"], calls) == (
        "tool_calls",
        "weather",
        "Rome",
        [],
    )
    turn = {"role": "assistant", "content": reply["text"], "tool_calls": reply["tool_calls"], "raw": reply["raw"]}
    answer = {"role": "tool", "id": call["id"], "content": "sunny"}
    ai.generate.send(messages=[asked, turn, answer], **({"tools": ["weather"]} | more)).result(40)
    assert "sunny" in sent(provider, 1)


def test_a_tool_that_the_worker_does_not_know(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    run_worker(on_broker, "ai")
    job = ai.generate.send("hi", tools=["weather", "elsewhere"])
    eventually(lambda: job.status() is State.DEAD, 40)
    assert "no tool 'elsewhere' is declared here" in job.info().detail
    assert provider.requests == []


def test_rounds_have_an_end(configured: Any, on_broker: RedisBroker, provider: Provider) -> None:
    provider.scripts += [wants("Rome")] * 5
    with pytest.raises(ai.NotAccepted, match="still wants tools called after 3 rounds"):
        run(ai.call("generate", "hi", tools=["weather"], max_rounds=3))
    assert (len(provider.requests), calls) == (3, ["Rome", "Rome"])


def test_a_retry_amid_the_rounds_repeats_no_call_and_no_tool_that_ended(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    @ai.tool(on_error="raise", name="flaky")
    async def flaky() -> str:
        """Fails at first."""
        calls.append("flaky")
        if fourlane.current_job().attempt == 1:  # type: ignore[union-attr]
            raise ConnectionError("gone")
        return "fine"

    @fourlane.task(backoff=fourlane.Backoff(1, 1), result_ttl_ms=10_000)
    async def report() -> Any:
        return await ai.call("generate", "hi", tools=[weather, flaky], name="talk")

    weather_and_flaky = Script(calls=(("weather", {"city": "Rome"}), ("flaky", {})))
    provider.scripts += [wants("Oslo"), weather_and_flaky, Script(pieces=("Done.",))]
    run_worker(on_broker)
    assert report.send().result(40)["text"] == "Done."
    assert calls == ["Oslo", "Rome", "flaky", "flaky"]
    assert len(provider.requests) == 3


def test_a_fallback_amid_the_rounds_goes_on_with_what_was_said(
    configured: Any, on_broker: RedisBroker, provider: Provider
) -> None:
    configured(fallbacks={"openai/gpt-6-luna": ["anthropic/claude-haiku-4-5"]})

    @ai.tool(name="last_words")
    async def last_words() -> str:
        """Says something, before its provider is gone."""
        provider.faults.append(Fault("status", 404))
        return "rain"

    provider.scripts += [Script(calls=(("last_words", {}),)), Script(pieces=("Take one.",))]
    reply = run(ai.call("generate", "hi", model="openai/gpt-6-luna", tools=[last_words]))
    assert (reply["model"], reply["text"]) == ("anthropic/claude-haiku-4-5", "Take one.")
    assert [request["path"].rpartition("/")[2] for request in provider.requests][-1] == "messages"
    assert "rain" in sent(provider, 2)


def test_a_limit_amid_the_rounds_postpones_the_job_and_repeats_nothing(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    @ai.tool(name="uses_up")
    async def uses_up() -> str:
        """Has the provider say that it is at its limit."""
        calls.append("tool")
        provider.faults.append(Fault("status", 429, (("retry-after", "3"),)))
        return "used"

    provider.scripts += [Script(calls=(("uses_up", {}),)), Script(pieces=("Done.",))]
    run_worker(on_broker, "ai")
    job = ai.generate.send("hi", tools=["uses_up"])
    eventually(lambda: job.status() is State.DELAYED, 10)
    assert job.result(40)["text"] == "Done."
    assert (calls, len(provider.requests), job.info().attempts) == (["tool"], 3, 0)


def test_a_tool_may_steer_its_job(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    @ai.tool(name="later")
    async def later() -> str:
        """Not now."""
        calls.append("later")
        if len(calls) == 1:
            raise Snooze(0.1)
        return "now"

    provider.scripts += [Script(calls=(("later", {}),)), Script(pieces=("Done.",))]
    run_worker(on_broker, "ai")
    job = ai.generate.send("hi", tools=["later"])
    assert job.result(40)["text"] == "Done."
    assert (calls, len(provider.requests), job.info().attempts) == (["later", "later"], 2, 0)


def test_a_cancel_amid_the_rounds_ends_them(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    begun = threading.Event()

    @ai.tool(name="endless")
    async def endless() -> str:
        """Takes for ever."""
        begun.set()
        await asyncio.sleep(3_600)
        return ""

    provider.scripts += [Script(calls=(("endless", {}),))]
    worker = run_worker(on_broker, "ai")
    job = ai.generate.send("hi", tools=["endless"])
    assert begun.wait(10)
    job.cancel()
    worker.told_cancelled({job.id})
    with pytest.raises(fourlane.JobCancelled):
        job.result(10)
    assert len(provider.requests) == 1


class Trip(BaseModel):
    city: str
    days: int


@pytest.mark.parametrize("model", MODELS)
def test_an_answer_keeps_a_schema(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider, model: str
) -> None:
    run_worker(on_broker, "ai")
    reply = ai.generate.send("Where to?", model=model, schema=Trip.model_json_schema()).result(40)
    assert Trip.model_validate(reply["data"]) == Trip(city="word", days=1)
    assert run(ai.call("generate", "Where to?", model=model, schema=Trip))["data"] == {"city": "word", "days": 1}


def test_an_answer_that_does_not_fit_is_repaired_once(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    provider.scripts += [Script(pieces=('{"city": "Rome"}',)), Script(pieces=('{"city": "Rome", "days": 3}',))]
    run_worker(on_broker, "ai")
    reply = ai.generate.send("Where to?", schema=Trip.model_json_schema(), tenant="acme").result(40)
    assert reply["data"] == {"city": "Rome", "days": 3}
    assert reply["cost_usd"] == pytest.approx(ai.spending("acme")["spent"], abs=3e-6)
    assert "'days' is a required property" in sent(provider, 1)


def test_what_no_model_gives_right_is_not_accepted(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    configured(fallbacks={"openai/gpt-6-luna": ["anthropic/claude-haiku-4-5"]})
    provider.scripts += [Script(pieces=("no",))] * 4
    run_worker(on_broker, "ai")
    job = ai.generate.send("Where to?", model="openai/gpt-6-luna", schema=Trip.model_json_schema())
    eventually(lambda: job.status() is State.DEAD, 40)
    assert "claude-haiku-4-5 gave no answer that keeps the schema: $: is no JSON" in job.info().detail
    assert len(provider.requests) == 4
    assert job.info().attempts == 1


def test_a_cut_answer_is_not_read_as_a_whole(configured: Any, on_broker: RedisBroker, provider: Provider) -> None:
    cut = Script(pieces=('{"city": "Rome", "days": 3}',), finish="max_tokens")
    provider.scripts += [cut, cut]
    with pytest.raises(ai.NotAccepted, match="cut off"):
        run(ai.call("generate", "hi", model="anthropic/claude-haiku-4-5", schema=Trip))
    reply = run(ai.call("generate", "hi", model="anthropic/claude-haiku-4-5", schema=Trip, accept=["truncated"]))
    assert (reply["outcome"], reply["data"]) == ("truncated", None)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 2.5}, "temperature must be 0 to 2, not 2.5"),
    ({"temperature": "hot"}, "temperature: a number"),
    ({"seed": -1}, "seed must be 0 to"),
    ({"effort": "huge"}, "effort: one of none, minimal, low"),
    ({"stop": ["a"] * 5}, "stop: 4 texts at most"),
    ({"accept": ["fine"]}, "accept: of ok, truncated"),
    ({"accept": []}, "accept: is empty"),
    ({"accept": 7}, "accept: a text or a list"),
    ({"stop": 7}, "stop: a text or a list"),
    ({"max_tokens": True}, "max_tokens: a whole number"),
    ({"max_rounds": 0}, "max_rounds must be 1"),
    ({"cache": "yes"}, "cache: true or false"),
    ({"name": "x" * 101}, "name: 100 characters at most"),
    ({"schema": {"type": "string"}}, "its root is an object"),
    ({"tools": [{"name": "a", "parameters": {"type": "object", "required": ["x"]}}]}, "'x' is required"),
    ({"system": "word " * 180_000}, "reads 200,000 tokens"),
    ({"prompt": None, "messages": [{"role": "user", "content": "word " * 180_000}]}, "reads 200,000 tokens"),
    ({"tools": [{"name": "a", "description": "word " * 180_000}]}, "reads 200,000 tokens"),
    ({"files": ["http://10.0.0.1/x.png"]}, r"files\[0\]: "),
    ({"files": ["../../etc/passwd"]}, r"files\[0\]: "),
    ({"files": ["storage:nonsense"]}, r"files\[0\]: "),
]


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=lambda x: str(x)[:40])
def test_bad_input_costs_nothing(
    configured: Any, on_broker: RedisBroker, provider: Provider, options: dict[str, Any], words: str
) -> None:
    given = {"prompt": "hi", "model": "anthropic/claude-haiku-4-5"} | options
    with pytest.raises(InvalidArguments, match=words):
        ai.generate.send(**given)
    with pytest.raises(Reject, match=words):
        run(ai.call("generate", **given))
    assert provider.requests == []


def test_what_is_no_json_and_what_is_no_option(configured: Any, on_broker: RedisBroker) -> None:
    with pytest.raises(InvalidArguments, match=r"give a job Trip.model_json_schema\(\)"):
        ai.generate.send("hi", schema=Trip)
    with pytest.raises(InvalidArguments, match="name the tool to a job: 'weather'"):
        ai.generate.send("hi", tools=[weather])
    with pytest.raises(TypeError, match="unexpected keyword argument 'temprature'"):
        ai.generate.send("hi", temprature=1)  # type: ignore[call-arg]


def test_files_go_with_a_prompt(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider, files: Path
) -> None:
    (files / "notes.txt").write_text("The secret is 42.")
    run_worker(on_broker, "ai")
    reply = ai.summarize.send(files=["notes.txt"], model="anthropic/claude-haiku-4-5").result(40)
    assert reply["outcome"] == "ok"
    assert "The secret is 42." in sent(provider, 0)
