"""Texts over what a model takes at once: in parts, each paid once, within the budget, joined in order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import fourlane
from examples.ai.provider import Fault, Provider, Script
from fourlane import State
from fourlane.errors import InvalidArguments
from fourlane.queues.broker import RedisBroker
from fourlane.root import root
from fourlane.storage.setup import storage
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

MODEL = "anthropic/claude-haiku-4-5"
PARAGRAPHS = [f"Paragraph {number} " + "has some words and they go on. " * 20 for number in range(10)]
TEXT = "\n\n".join(paragraph.strip() for paragraph in PARAGRAPHS) + "\n"
SMALL = {"to": "German", "model": MODEL, "max_tokens": 512}  # parts of 256 tokens: one paragraph each


def asked(provider: Provider) -> list[str]:
    return [request["body"]["messages"][-1]["content"] for request in provider.requests]


def names(provider: Provider) -> set[str]:
    return {request["headers"]["idempotency-key"].partition("-ai:")[2] for request in provider.requests}


async def translated(text: str) -> ai.Reply:
    return await ai.translate(text, to="German", model=MODEL)


def echo(words: str) -> str:
    """What the stand-in makes of a part."""
    return "You said: " + " ".join(words[:400].split())


def test_a_long_translation_is_made_in_parts_and_joined_in_order(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    run_worker(on_broker, "ai")
    job = ai.translate.send(TEXT, tenant="acme", **SMALL)
    reply = job.result(60)
    expected = "\n\n".join(echo(paragraph) for paragraph in PARAGRAPHS) + "\n"
    assert reply["text"] == expected
    assert "".join(piece.text for piece in job.stream(timeout=5)) == expected
    assert names(provider) == {f"translate:{number}" for number in range(1, 11)}
    assert reply["cost_usd"] == pytest.approx(ai.spending("acme")["spent"], abs=1e-5)
    [later] = [request["body"] for request in provider.requests if "Paragraph 3 " in str(request["body"]["messages"])]
    assert "they go on." in str(later["system"])  # the end of the part before


def test_a_short_text_is_one_call(configured: Any, on_broker: RedisBroker, provider: Provider) -> None:
    assert run(translated("Hello"))["text"] == "You said: Hello "
    assert len(provider.requests) == 1


def test_a_retry_pays_for_no_part_twice(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    @fourlane.task(backoff=fourlane.Backoff(1, 1), result_ttl_ms=10_000)
    async def report() -> str:
        reply = await ai.translate(TEXT, **SMALL)
        if fourlane.current_job().attempt == 1:  # type: ignore[union-attr]
            raise ValueError("after the call")
        return reply["text"]

    run_worker(on_broker)
    assert report.send().result(60).count("You said: ") == 10
    assert len(provider.requests) == 10


def test_a_part_that_fails_is_made_again_alone(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    provider.faults += [Fault("headers"), Fault("refuse")]
    run_worker(on_broker, "ai")
    job = ai.translate.send(TEXT, **SMALL)
    eventually(lambda: job.status() is State.DEAD, 40)
    assert re.search(r"part \d+ of 10: .* refused the content", job.info().detail)
    assert len(provider.requests) < 10  # none begins after it


def test_a_translation_that_is_cut_is_made_of_smaller_parts(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    provider.scripts.append(Script(pieces=("half a",), finish="max_tokens"))
    run_worker(on_broker, "ai")
    text = "One two three. " * 30
    job = ai.translate.send(text, to="German", model=MODEL)
    reply = job.result(40)
    assert reply["outcome"] == "ok"
    assert "half a" not in reply["text"]
    assert reply["text"].count("You said:") == len(provider.requests) - 1 > 1
    assert "".join(piece.text for piece in job.stream(timeout=5)) == reply["text"]


def test_one_that_is_always_cut_is_none(configured: Any, on_broker: RedisBroker, provider: Provider) -> None:
    provider.scripts += [Script(pieces=("half",), finish="max_tokens")] * 9
    with pytest.raises(ai.NotAccepted, match="cut its translation off"):
        run(translated("One two three. " * 30))


def test_nothing_is_paid_that_the_budget_cannot_pay_to_its_end(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider
) -> None:
    configured(budgets_usd={"acme": 0.005})  # some parts of ten
    run_worker(on_broker, "ai")
    job = ai.translate.send(TEXT, tenant="acme", **SMALL)
    eventually(lambda: job.status() is State.DEAD, 40)
    assert "the budget of tenant acme" in job.info().detail
    assert provider.requests == []
    assert ai.spending("acme").get("reserved", 0) == 0


def test_a_text_over_the_window_is_mapped_and_reduced(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider, files: Path
) -> None:
    (files / "long.txt").write_text("Many words go on and on. " * 60_000)  # 375,000 tokens of a window of 200,000
    run_worker(on_broker, "ai")
    job = ai.summarize.send(source="long.txt", words=20, model=MODEL)
    reply = job.result(60)
    assert reply["text"].startswith("You said: You said: Many words")
    assert names(provider) == {"summarize:map-1:1", "summarize:map-1:2", "summarize:map-1:3", "summarize"}
    assert "".join(piece.text for piece in job.stream(timeout=5)) == reply["text"]


def test_a_text_that_no_job_could_carry_comes_from_a_source_and_goes_to_storage(
    configured: Any, on_broker: RedisBroker, run_worker: RunWorker, provider: Provider, files: Path
) -> None:
    paragraph = "Many words go on and on. " * 300  # 7.5 kB
    (files / "book.txt").write_text("\n\n".join([paragraph] * 90))
    provider.scripts += [Script(pieces=("word " * 1_600,))] * 90  # 8 kB each
    run_worker(on_broker, "ai")
    reply = ai.translate.send(source="book.txt", to="German", model=MODEL).result(60)
    assert (reply["text"], len(provider.requests)) == ("", 90)
    kept = root().part(storage).get(reply["files"][0])
    assert kept.data.decode().count("word") == 1_600 * 90


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"text": "a", "source": "b"}, "give a text or a source of it, not both"),
    ({}, "the prompt is empty"),
    ({"text": "a", "to": " "}, "to: the name or code of a language"),
    ({"source": "../etc/passwd"}, "passwd|folder|path"),
    ({"text": "word " * 100, "max_tokens": 100}, "room for 50 tokens of the text at a time; raise max_tokens"),
    ({"text": "word " * 120_000, "max_tokens": 256}, "parts, over 1,000; raise max_tokens"),
    ({"text": "a", "temperature": 9}, "temperature must be 0 to 2"),
    ({"text": "word " * 300_000, "schema": {"type": "object", "properties": {}}}, "reads 200,000 tokens"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=lambda x: str(x)[:40])
def test_bad_input_costs_nothing(
    configured: Any, on_broker: RedisBroker, provider: Provider, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidArguments, match=words):
        ai.translate.send(**({"to": "German", "model": MODEL} | options))
    assert provider.requests == []
