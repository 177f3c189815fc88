"""A file that only its descriptor leads to, in memory where there is such a thing."""

from __future__ import annotations

import os
import sys

__all__ = ["unnamed_file"]


def unnamed_file() -> int:
    """An open descriptor, for this process and those that it is handed to. Raises OSError."""
    if sys.platform == "linux":
        return os.memfd_create("fourlane")
    import tempfile

    with tempfile.TemporaryFile(prefix="fourlane-") as file:
        return os.dup(file.fileno())
