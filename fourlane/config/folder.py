"""The folder that relative names in settings start from."""

from __future__ import annotations

from pathlib import Path

__all__ = ["from_start", "keep"]

_kept: Path | None = None


def keep() -> None:
    """From now on it is the present one, wherever code that runs in this process changes to."""
    global _kept
    _kept = Path.cwd()


def from_start(path: Path) -> Path:
    return path if _kept is None else _kept / path
