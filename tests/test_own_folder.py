"""The folder of a user's processes: his alone, or none."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from fourlane.own_folder import own_folder


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for files of all users."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return tmp_path


def test_it_is_made_for_this_user_alone(shared: Path) -> None:
    folder = own_folder()
    assert (folder.parent, folder.stat().st_mode & 0o777) == (shared, 0o700)
    assert own_folder() == folder


@pytest.mark.parametrize("kind", ["open", "link", "file"])
def test_one_that_another_made_is_not_taken(shared: Path, tmp_path: Path, kind: str) -> None:
    own_folder().rmdir()
    place = shared / own_folder().name
    place.rmdir()
    if kind == "open":
        place.mkdir(mode=0o755)
    elif kind == "link":
        (shared / "theirs").mkdir(mode=0o700)
        place.symlink_to("theirs")
    else:
        place.touch()
    with pytest.raises(OSError, match=r"set TMPDIR to a folder of your own|File exists"):
        own_folder()


def test_the_runtime_folder_of_the_session_where_it_is_private(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = shared / "session"
    session.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(session))
    assert own_folder() == session / "fourlane"
    session.chmod(0o755)
    assert own_folder().parent == shared
