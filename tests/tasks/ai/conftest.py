"""Folders of a test's own for what AI calls keep and read; each asks with the settings of a process on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder from which jobs may read."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    monkeypatch.setenv("FOURLANE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FOURLANE_FILES_DIR", str(folder))
    return folder
