"""Which storage the settings choose, and what may be read."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from fourlane.config import load_settings
from fourlane.errors import InvalidArguments
from fourlane.root import Root
from fourlane.storage.setup import inputs, kept_storage, storage

SOURCE = "http://127.0.0.1/x.png"


@pytest.fixture(autouse=True)
def _there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def root(**settings: object) -> Root:
    return Root(load_settings(**settings))


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({}, "the folder .fourlane/files"),
        ({"data_dir": "/data"}, "the folder /data/files"),
        ({"database_url": "sqlite:////tmp/x.db"}, "SQLite in /tmp/x.db"),
        ({"database_url": "postgresql://u:hush@h/d"}, "PostgreSQL d at h"),
        ({"database_url": "sqlite:////tmp/x.db", "storage": "disk:/data"}, "the folder /data"),
        ({"storage": "database", "data_dir": "data"}, "SQLite in {here}/data/fourlane.db"),
        ({"storage": "s3://files/p", "storage_keys": "key:hush"}, "s3://files/p/"),
    ],
)
def test_where_files_are_kept(settings: dict[str, object], where: str, tmp_path: Path) -> None:
    of = root(**settings)
    assert str(of.part(storage)) == where.format(here=tmp_path)
    assert of.part(storage) is of.part(storage)
    of.close()


def test_what_nobody_chose_and_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    of = root(database_url="sqlite:////tmp/x.db")
    assert kept_storage(of) is of.part(storage)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert kept_storage(of) is None
    of.close()


def test_what_may_be_read(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/x").write_bytes(b"x")
    with pytest.raises(InvalidArguments, match="a loopback address"):
        root().part(inputs).check(SOURCE)
    root(files_allow_private=True).part(inputs).check(SOURCE)
    with pytest.raises(InvalidArguments, match="must begin with https"):
        root(environment="staging", files_allow_private=True).part(inputs).check(SOURCE)
    with pytest.raises(InvalidArguments, match="FOURLANE_FILES_DIR names none"):
        root().part(inputs).check("x")
    root(files_dir="files").part(inputs).check("x")
