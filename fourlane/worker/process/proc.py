"""What Linux says of a process."""

from __future__ import annotations

import resource
from pathlib import Path

__all__ = ["is_stopped", "rss_mb"]


def is_stopped(pid: int) -> bool:
    """Whether a signal holds it up."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in ("T", "t")


def rss_mb(pid: int) -> float:
    """The memory that it holds; 0 when it has gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * resource.getpagesize() / 1_048_576
