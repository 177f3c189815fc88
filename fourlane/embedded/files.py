"""The files of an embedded server's folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

__all__ = ["holder", "lock", "tail", "write_private"]

_TAIL_BYTES: Final = 1500  # how much of the log an error shows


def lock(path: Path) -> int | None:
    """Open ``path``, made when missing, and lock it while the descriptor lives; None when it is locked."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` in one step, so that a full disk or a crash leaves the old text; mode 0600."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with open(draft, "w", opener=lambda name, flags: os.open(name, flags | os.O_EXCL, 0o600)) as file:
        file.write(text)
    draft.replace(path)


def holder(folder: Path) -> str:
    """The process that owns the server."""
    return (folder / "lock").read_text() or "(just starting)"


def tail(folder: Path, start: int = 0) -> str:
    """The end of the server's log, cut to its last lines, from offset ``start`` on."""
    try:
        with (folder / "server.log").open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(start, end - _TAIL_BYTES))
            return log.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""
