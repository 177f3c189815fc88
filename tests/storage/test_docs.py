"""What the page shows runs: a program keeps a file, and a job on a worker reads it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fourlane.queues.broker import RedisBroker
from tests.storage.test_media import PNG
from tests.worker.conftest import RunWorker
from tests.worker.conftest import run_worker as run_worker

PAGE = Path(__file__).parents[2] / "docs/storage.md"


def test_the_page(broker: RedisBroker, run_worker: RunWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_DATA_DIR", str(tmp_path))
    program, tasks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"data": PNG}
    exec(program.removesuffix("storage.delete(ref)\n") + tasks, names)
    assert (names["stored"].data, names["stored"].media_type, names["link"]) == (PNG, "image/png", None)
    run_worker(broker)
    assert names["look_at"].send(names["ref"]).result(timeout=10) == f"photo.png, image/png, {len(PNG)} bytes"
