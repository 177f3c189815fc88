"""The protocols against llmock, a stand-in that others wrote."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import pytest

from fourlane.providers.ai import Account, Answer, ChatMessage, Question, Tool, aclose, ask
from tests.servers import eventually, free_port

pytest.importorskip("llmock")
pytestmark = [pytest.mark.filterwarnings("ignore::ResourceWarning")]

MODELS: dict[str, tuple[str, str, Literal["responses", "chat"] | None]] = {
    "openai": ("v1", "gpt-5", "responses"),
    "openrouter": ("v1", "gpt-4o", "chat"),
    "anthropic": ("anthropic", "claude-opus-5", None),
    "google": ("gemini", "gemini-2.5-flash", None),
}
TOOL = Tool(
    name="weather", description="Of a city.", parameters={"type": "object", "properties": {"city": {"type": "string"}}}
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    found = f"http://127.0.0.1:{(port := free_port())}"
    start = "import sys; sys.argv[0] = 'llmock'; from llmock.cli import app; app()"
    words = [sys.executable, "-c", start, "serve", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: _answers(found), 30, interval=0.1)
        yield found
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return bool(httpx.get(url).status_code)
    except httpx.HTTPError:
        return False


def asked(url: str, provider: str, **options: Any) -> Answer:
    path, model, protocol = MODELS[provider]
    message = ChatMessage(role="user", text="What is the weather in Rome?")
    question = Question(model=model, messages=(message,), idempotency_key="k", **options)

    async def run() -> Answer:
        try:
            return await ask(
                Account(provider, "mock-key", f"{url}/{path}", 30.0, protocol), question, lambda text: None
            )
        finally:
            await aclose()

    return asyncio.run(run())


@pytest.mark.parametrize("provider", MODELS)
def test_an_answer(url: str, provider: str) -> None:
    answer = asked(url, provider, system="Be brief.", max_tokens=200)
    assert answer.text
    assert answer.outcome in ("ok", "truncated")
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0


@pytest.mark.parametrize("provider", MODELS)
def test_a_tool_call(url: str, provider: str) -> None:
    answer = asked(url, provider, tools=(TOOL,), must_call=True)
    assert (answer.outcome, [call.name for call in answer.calls]) == ("tool_calls", ["weather"])
    assert isinstance(json.loads(answer.calls[0].arguments), dict)


@pytest.mark.parametrize("provider", ["google", "openai", "openrouter"])  # llmock knows no schemas there
def test_an_answer_by_a_schema(url: str, provider: str) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    assert isinstance(json.loads(asked(url, provider, schema=schema).text)["city"], str)
