"""The command in this process, and jobs for it to tell of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fourlane.cli import main
from tests.queues.conftest import hand as hand
from tests.queues.conftest import store as store

Run = Callable[..., Result]
QUEUE = "local.jobs.normal.mail"


@pytest.fixture
def run(redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the CLI in an empty folder, on the shared server; ``code`` is the exit code that it must have."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("FOURLANE_NAMESPACE", namespace)

    def invoke(*args: str, code: int = 0, input: str | None = None) -> Result:
        result = CliRunner().invoke(main, args, input=input, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return invoke


def read(result: Result) -> Any:
    """What it wrote as JSON."""
    return json.loads(result.stdout)
