"""The SDKs against llmock, a stand-in that others wrote."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from fourlane.errors import ProviderLimited
from fourlane.queues.broker import RedisBroker
from fourlane.tasks import ai
from tests.servers import eventually, free_port
from tests.tasks.ai.test_ai import run

pytest.importorskip("llmock")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Mock = Callable[..., str]


@pytest.fixture
def mock(broker: RedisBroker) -> Iterator[Mock]:
    """Starts llmock with options, and points the calls at it."""
    with ExitStack() as stack:
        stack.callback(ai.configure, None)

        def start(*options: str) -> str:
            port = free_port()
            # Its faults fall by chance: always the same chance.
            serve = "import random, sys; random.seed(1); sys.argv[0] = 'llmock'; from llmock.cli import app; app()"
            words = [sys.executable, "-c", serve, "serve", "--host", "127.0.0.1", "--port", str(port), *options]
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            url = f"http://127.0.0.1:{port}"
            eventually(lambda: _answers(url), 30, interval=0.1)
            urls = {"openai": f"{url}/v1", "anthropic": f"{url}/anthropic", "google": f"{url}/gemini"}
            ai.configure(ai.AiConfig(api_keys=dict.fromkeys(urls, "mock-key"), base_urls=urls))
            return url

        yield start


def _answers(url: str) -> bool:
    try:
        return bool(httpx.get(url).status_code)
    except httpx.HTTPError:
        return False


def test_three_sdks_answer(mock: Mock) -> None:
    mock()
    for model in ("gpt-4o", "claude-haiku-4.5", "gemini-1.5-flash"):
        reply = run(ai.call("generate", "Hello", model=model))
        assert reply["text"]
        assert reply["output_tokens"] > 0
        assert reply["cost_usd"] > 0


def test_cut_and_truncated_streams_and_errors_are_outlived(mock: Mock) -> None:
    mock("--stream-fault", "disconnect=0.15", "--stream-fault", "truncate=0.1", "--error-rate", "500=0.1")

    async def calls() -> list[ai.Reply]:
        return [await ai.call("generate", f"Hello {n}", model="gpt-4o") for n in range(6)]

    assert all(reply["text"] for reply in run(calls()))


def test_its_limit_is_obeyed(mock: Mock) -> None:
    mock("--rpm", "3")

    async def calls() -> list[str]:
        ends = []
        for number in range(6):
            try:
                await ai.call("generate", f"Hello {number}", model="gpt-4o")
                ends.append("ok")
            except ProviderLimited as error:
                ends.append("long" if error.delay_ms > 2_000 else "short")
        return ends

    assert run(calls()) == ["ok"] * 3 + ["long"] * 3
