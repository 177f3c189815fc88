"""Files in a folder: of one machine, or of a volume that several share.

A file is the bytes as they are, and behind them a line that says what they are, so that both come and go at once.
Programs that show images, sound or documents pass over it. A file is written beside its place, synced, and renamed:
whoever is killed meanwhile leaves one that no name leads to, which ``prune`` takes away.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from fourlane.errors import NotStored, StorageUnavailable
from fourlane.storage.names import reference
from fourlane.storage.store import Storage, Stored

__all__ = ["DiskStorage"]

_MARK: Final = b"fourlane-file"
_END: Final = re.compile(rb"([0-9a-f]{8}) %b\n" % _MARK)
_END_BYTES: Final = 8 + 1 + len(_MARK) + 1
_MAKINGS: Final = 100  # of a folder that is pruned each time before it has its file
_FAULTS: Final = {
    errno.ENOSPC: "the disk is full; free some space, or set FOURLANE_STORAGE_DAYS to fewer days",
    errno.EDQUOT: "this user's share of the disk is full; free some space, or set FOURLANE_STORAGE_DAYS to fewer days",
    errno.EROFS: "the disk is read-only; set FOURLANE_STORAGE to a folder that can be written",
    errno.EACCES: "this user may not; give it the folder, or set FOURLANE_STORAGE to another",
    errno.EPERM: "this user may not; give it the folder, or set FOURLANE_STORAGE to another",
    errno.ENOTDIR: "a file lies where a folder should be; move it, or set FOURLANE_STORAGE to another folder",
    errno.EMFILE: "this process has too many open files; raise its limit (ulimit -n)",
}


class _About(msgspec.Struct, frozen=True):
    """What stands behind the bytes."""

    media_type: str
    sha256: str


class DiskStorage(Storage):
    """Keeps files below a folder, which is made when the first one is put."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __str__(self) -> str:
        return f"the folder {self._folder}"

    def _write(self, name: str, data: bytes, media_type: str) -> None:
        about = msgspec.json.encode(_About(media_type, hashlib.sha256(data).hexdigest()))
        end = b"\n%b %08x %b\n" % (about, len(about), _MARK)
        with self._explained():
            place = self._folder / name
            for _ in range(_MAKINGS):
                with suppress(FileNotFoundError):  # its folder was empty, and pruned
                    _make(place.parent, mode=0o777 if self._folder.is_dir() else 0o700)
                    _replace(place, data, end)
                    return
            raise FileNotFoundError(errno.ENOENT, "its folder vanishes each time that it is made")

    def _read(self, name: str) -> Stored | None:
        with self._explained():
            try:
                whole = (self._folder / name).read_bytes()
            except FileNotFoundError:
                return None
        about, size = _about(whole)
        if about is None or hashlib.sha256(memoryview(whole)[:size]).hexdigest() != about.sha256:
            raise NotStored(f"{reference(name)} is damaged: what lies in {self} is not what was put")
        return Stored(whole[:size], about.media_type)

    def _remove(self, name: str) -> None:
        with self._explained(), suppress(FileNotFoundError):
            (self._folder / name).unlink()

    def prune(self, older_than: datetime) -> int:
        before, gone = older_than.timestamp(), 0
        with self._explained():
            for folder, _, files in os.walk(self._folder, topdown=False, onerror=_raise_unless_gone):
                for file in files:
                    gone += _prune(Path(folder, file), before)
                if Path(folder) != self._folder:
                    with suppress(OSError):  # it has files, or others had it first
                        os.rmdir(folder)
        return gone

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = _FAULTS.get(error.errno or 0, "look at the disk")
            raise StorageUnavailable(f"{self}: {error.strerror or error}: {what}") from error


def _make(folder: Path, mode: int) -> None:
    """Make a folder and those above it, durably. A place that is not there yet is made for this user alone."""
    if folder.is_dir():
        return
    _make(folder.parent, mode)
    with suppress(FileExistsError):
        folder.mkdir(mode)
    _sync_folder(folder.parent)


def _replace(place: Path, data: bytes, end: bytes) -> None:
    """Put a file into its place, whole and durable. Raises FileNotFoundError: its folder is gone."""
    unready = place.with_name(f".{secrets.token_hex(16)}")
    try:
        with unready.open("xb") as file:
            file.write(data)
            file.write(end)
            file.flush()
            os.fsync(file.fileno())
        unready.replace(place)
    except BaseException:
        unready.unlink(missing_ok=True)
        raise
    _sync_folder(place.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of file systems over a network, which sync names by themselves
            raise
    finally:
        os.close(descriptor)


def _about(whole: bytes) -> tuple[_About | None, int]:
    """What stands behind the bytes of a file, and how many bytes there are; None: it is none of ours."""
    end = _END.fullmatch(whole[-_END_BYTES:])
    if end is None:
        return None, 0
    stop = len(whole) - _END_BYTES - 1
    start = stop - int(end[1], 16)
    if start < 1:
        return None, 0
    try:
        return msgspec.json.decode(whole[start:stop], type=_About), start - 1
    except msgspec.DecodeError:
        return None, 0


def _prune(file: Path, before: float) -> bool:
    """Whether a file of ours went, because it is old."""
    try:
        if file.stat().st_mtime >= before or not _is_ours(file):
            return False
        file.unlink()
    except FileNotFoundError:
        return False
    return not file.name.startswith(".")


def _is_ours(file: Path) -> bool:
    """Whoever names a folder that has other things in it does not lose them."""
    if re.fullmatch(r"\.[0-9a-f]{32}", file.name):
        return True
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - _END_BYTES))
        return _END.fullmatch(opened.read()) is not None


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
