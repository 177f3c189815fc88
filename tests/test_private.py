"""What lies in the data folder is this user's alone, whatever makes it first and whatever the umask."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fourlane import private
from fourlane.crypto import key_of_file
from fourlane.db.engine import open_database, sqlite_url
from fourlane.embedded import EmbeddedRedis
from fourlane.events.buffer import Buffer
from fourlane.storage.disk import DiskStorage
from tests.command import Command
from tests.conftest import migrate


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def loose(folder: Path) -> list[str]:
    """What others may do something with."""
    return [str(path) for path in [folder, *folder.rglob("*")] if stat.S_IMODE(path.lstat().st_mode) & 0o077]


def _database(folder: Path) -> None:
    migrate(sqlite_url(folder / "fourlane.db"))


def _database_in_use(folder: Path) -> None:
    database = open_database(sqlite_url(folder / "fourlane.db"))
    with database.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS a (b)")
        assert loose(folder) == []  # with its journals
    database.close()


def _buffer(folder: Path) -> None:
    Buffer(folder / "events", 10).put("q", [{"MessageBody": "x"}])


def _files(folder: Path) -> None:
    DiskStorage(folder / "files")._write("a/b", b"x", "text/plain")


MAKERS: list[Callable[[Path], object]] = [
    _database,
    _database_in_use,
    _buffer,
    lambda folder: key_of_file(folder / "encryption.key"),
    lambda folder: EmbeddedRedis.open(folder).close(),
]


@pytest.mark.parametrize("first", MAKERS)
def test_whatever_comes_first(tmp_path: Path, first: Callable[[Path], object]) -> None:
    folder = tmp_path / ".fourlane"
    first(folder)
    assert loose(folder) == []


def test_a_place_of_files_that_is_not_there_yet(tmp_path: Path) -> None:
    _files(tmp_path / ".fourlane")
    assert not stat.S_IMODE((tmp_path / ".fourlane" / "files").stat().st_mode) & 0o077
    assert not stat.S_IMODE((tmp_path / ".fourlane").stat().st_mode) & 0o077


@pytest.mark.parametrize("again", [_database, lambda folder: key_of_file(folder / "encryption.key")])
def test_what_stood_open_is_closed(tmp_path: Path, again: Callable[[Path], object]) -> None:
    folder = tmp_path / ".fourlane"
    again(folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    again(folder)
    assert loose(folder) == []


def test_a_folder_that_is_not_ours_alone_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program's own, or one for everybody."""
    program, shared = tmp_path / "program", tmp_path / "shared"
    for path, mode in ((program, 0o755), (shared, 0o1777)):
        path.mkdir()
        path.chmod(mode)
    (program / "within").mkdir()
    monkeypatch.chdir(program / "within")
    for path in (program, shared):
        mode = path.stat().st_mode
        private.folder(path)
        assert path.stat().st_mode == mode


def test_commands_that_write_files(tmp_path: Path, redis_url: str) -> None:
    command = Command(tmp_path, REDIS_URL=redis_url)
    (tmp_path / "old.jsonl").write_text("x" * 99)
    (tmp_path / "old.jsonl").chmod(0o644)
    for name in ("new.jsonl", "old.jsonl"):
        done = command("dead", "export", "-o", name)
        assert done.returncode == 0, done.stderr
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        assert (tmp_path / name).read_text() == ""
    assert json.loads(command("dead", "export", "-o", "/dev/stdout", "--json").stdout) == []
    assert command("db", "migrate").returncode == 0
    assert loose(tmp_path / ".fourlane") == []
