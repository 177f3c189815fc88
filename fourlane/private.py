"""Files and folders that only this user can read, whatever the umask, and whichever command makes them first."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

__all__ = ["file", "folder", "opened", "tighten"]


def folder(path: Path) -> None:
    """Make a folder, and those above it that are missing. One that is there is closed to others."""
    _make(path)
    tighten(path)


def file(path: Path) -> None:
    """Make an empty file where there is none."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def opened(path: Path | str) -> IO[Any]:
    """A file for text, emptied; one that was there is closed to others."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    _close(descriptor)
    return open(descriptor, "w", encoding="utf-8", newline="")


def tighten(*paths: Path) -> None:
    """Close to others what is ours. Not a folder in which we are only a guest: that of a program, or /tmp."""
    for path in paths:
        if path.is_dir() and Path.cwd().is_relative_to(path.resolve()):
            continue
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                _close(descriptor)
            finally:
                os.close(descriptor)


def _make(path: Path) -> None:
    if not path.is_dir():
        if path.parent != path:
            _make(path.parent)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)


def _close(descriptor: int) -> None:
    there = os.fstat(descriptor)
    is_plain = stat.S_ISREG(there.st_mode) or (stat.S_ISDIR(there.st_mode) and not there.st_mode & stat.S_ISVTX)
    if is_plain and there.st_uid == os.geteuid() and there.st_mode & 0o077:
        os.fchmod(descriptor, stat.S_IMODE(there.st_mode) & ~0o077)
