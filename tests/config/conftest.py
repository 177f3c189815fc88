"""An environment with none of our variables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.config.asked import PUBLIC, SECRETS


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder, and none of our variables in the process."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("FOURLANE_") or name.upper() in SECRETS | PUBLIC:
            monkeypatch.delenv(name)
