"""Folders of a test's own for what AI calls keep and read; each asks with the settings of a process on this machine."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.ai.provider import Provider
from fourlane.providers.ai import accounts
from fourlane.queues.broker import RedisBroker
from fourlane.tasks import ai


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder from which jobs may read."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    monkeypatch.setenv("FOURLANE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FOURLANE_FILES_DIR", str(folder))
    return folder


_UNCLOSED = ("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            for unclosed in _UNCLOSED:
                item.add_marker(pytest.mark.filterwarnings(unclosed))


@pytest.fixture(autouse=True)
def no_clients_left() -> Iterator[None]:
    """Those of workers, whose loops have ended: here, where the warnings of their sockets are awaited."""
    yield
    opened = (accounts._clients, accounts._https, accounts._addresses)
    if any(opened):
        for kept in opened:
            kept.clear()
        gc.collect()


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        yield server


@pytest.fixture
def asked(provider: Provider) -> Iterator[Any]:
    """AI calls go to the stand-in; call it to set options beside that."""

    def set_up(**options: Any) -> None:
        keys = dict.fromkeys(provider.base_urls, "sk-test")
        ai.configure(ai.AiConfig(api_keys=keys, base_urls=provider.base_urls, **options))

    set_up()
    yield set_up
    ai.configure(None)


@pytest.fixture
def media_tasks(asked: Any, broker: RedisBroker) -> Iterator[RedisBroker]:
    """The tasks that make and hear, on this test's broker."""
    before = ai.image.broker
    tasks = [ai.image, ai.transcribe, ai.speak, ai.embed, ai.moderate]
    for task in tasks:
        task.broker = broker
        broker.declare_actor(task)
    yield broker
    for task in tasks:
        task.broker = before
