"""A folder for files by which the processes of one user find each other."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["own_folder"]


def own_folder() -> Path:
    """One that nobody else can enter, made when missing. In ``/tmp`` itself anybody may have made our file first.

    Raises OSError: another user has its place, or has a right to it.
    """
    import tempfile

    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or "/nowhere")
    if _is_ours_alone(runtime):
        folder = runtime / "fourlane"
    else:
        folder = Path(tempfile.gettempdir()) / f"fourlane-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_ours_alone(folder):
        advice = "others have a right to it; remove it, or set TMPDIR to a folder of your own"
        raise PermissionError(errno.EACCES, advice, str(folder))
    return folder


def _is_ours_alone(folder: Path) -> bool:
    try:
        found = os.lstat(folder)  # a link leads wherever its owner likes
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
