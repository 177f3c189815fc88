"""Files of the one folder that jobs may read by path. No link leads out of it, not even one that changes meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from fourlane.errors import InputUnavailable, InvalidArguments

__all__ = ["check", "read"]

# Not a pipe, on which opening would wait.
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def check(folder: Path, path: str) -> None:
    """Raises InvalidArguments: a path leads out of the folder, or this process can see that no file is there."""
    place = folder / _find(folder, path)
    if not os.path.isdir(folder):  # a web tier may not have the folder of its workers
        return
    try:
        is_file = stat.S_ISREG(place.stat().st_mode)
    except OSError as error:
        if error.errno in _GONE:
            raise InvalidArguments(f"{path[:200]!r} is not there") from None
        return  # a worker may do more than we
    if not is_file:
        raise InvalidArguments(f"{path[:200]!r} is no file")


def _find(folder: Path, path: str) -> Path:
    """Where a path leads, from the folder on and without links. A file need not be there.

    Raises InvalidArguments: out of the folder.
    """
    try:
        root = folder.resolve()
        place = (root / path).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # links in a circle, a zero byte
        raise InvalidArguments(f"{path[:200]!r} is no path: {error}") from None
    if root not in place.parents:
        raise InvalidArguments(f"{path[:200]!r} is not in the folder of FOURLANE_FILES_DIR")
    return place.relative_to(root)


def read(folder: Path, path: str, most_bytes: int) -> bytes:
    """A file's bytes, one more than ``most_bytes`` at most.

    Raises:
      InvalidArguments: it is not there, is no file, or is out of the folder.
      InputUnavailable: it cannot be read.
    """
    within = _find(folder, path)
    try:
        with os.fdopen(_open(folder.resolve(), within), "rb") as file:
            return file.read(most_bytes + 1)
    except IsADirectoryError:
        raise InvalidArguments(f"{path[:200]!r} is no file") from None
    except OSError as error:
        if error.errno in _GONE:
            raise InvalidArguments(f"{path[:200]!r} is not there") from None
        raise InputUnavailable(f"{path[:200]!r} cannot be read: {error.strerror}") from error


def _open(root: Path, within: Path) -> int:
    """Open a file by steps, of which none may be a link: it was none a moment ago."""
    *folders, name = within.parts
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            step = os.open(folder, _FLAGS | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = step
        file = os.open(name, _FLAGS, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise IsADirectoryError(errno.EISDIR, "no file")
    return file
