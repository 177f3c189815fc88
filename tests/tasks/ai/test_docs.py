"""What the pages on AI calls show is run as it stands there, against the stand-in."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any, Final

import pytest

import fourlane
from examples.ai.provider import Provider
from fourlane.config.groups.ai import AiOptions
from fourlane.providers.ai import aclose
from fourlane.queues.broker import RedisBroker
from fourlane.tasks import ai
from fourlane.tasks.ai.text import tools
from tests.worker.conftest import RunWorker

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

DOCS: Final = Path(__file__).parents[3] / "docs"
PAGES: Final = ("ai.md", "ai-tasks.md")


def blocks(language: str) -> list[Any]:
    found = []
    for page in PAGES:
        text = (DOCS / page).read_text()
        for at in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            found.append(pytest.param(at[1], id=f"{page}:{text[: at.start()].count(chr(10)) + 1}"))
    return found


@pytest.fixture
def served(broker: RedisBroker, run_worker: RunWorker, files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The platform's AI tasks, a worker for them, and the files that the pages name."""
    monkeypatch.setattr(tools, "_declared", {})  # a page may declare what a test has declared
    (files / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n and a cat")
    (files / "report.pdf").write_bytes(b"%PDF-1.7 a report")
    (files / "book.txt").write_text("Once upon a time. " * 100)
    (files / "calls").mkdir()
    (files / "calls" / "today.mp3").write_bytes(b"ID3 a call")
    tasks = [task for task in vars(ai).values() if isinstance(task, fourlane.Task)]
    before = ai.generate.broker
    with Provider() as provider:
        ai.configure(ai.AiConfig(api_keys=dict.fromkeys(provider.base_urls, "sk"), base_urls=provider.base_urls))
        for task in tasks:
            task.broker = broker
            broker.declare_actor(task)
        run_worker(broker, "ai")
        yield
        for task in tasks:
            task.broker = before
        ai.configure(None)


@pytest.mark.parametrize("text", blocks("python"))
def test_what_is_shown_runs(served: None, text: str) -> None:
    code: CodeType = compile(text, "<docs>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    async def run() -> None:
        try:
            await eval(code, names)
        finally:
            await aclose()

    names: dict[str, Any] = {"ai": ai, "fourlane": fourlane}
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(run())
    else:
        exec(code, names)


@pytest.mark.parametrize("text", blocks("json"))
def test_settings_that_are_shown_are_some(text: str) -> None:
    assert AiOptions.model_validate(json.loads(text)).model_fields_set


def test_the_table_of_short_names_has_all_and_says_what_they_ask() -> None:
    text = (DOCS / "ai.md").read_text()
    rows = re.findall(
        r"^\| (`[^|]*) \| (.*) \|$", text.partition("| short name |")[2].partition("\n\n")[0], re.MULTILINE
    )
    told = {name: asks for names, asks in rows for name in re.findall(r"`([^`]+)`", names)}
    assert told.keys() == ai.MODELS.keys()
    for name, asks in told.items():
        if "`" in asks and "asked where" not in asks:
            assert f"`{ai.AiConfig().resolve(name)}`" in asks
