"""Waits until a file can be read: as ``select`` does, but with descriptors of any number."""

from __future__ import annotations

import select
from collections.abc import Iterable

__all__ = ["readable"]


def readable(descriptors: Iterable[int], within_seconds: float) -> bool:
    """Whether one of them can be read, or was closed by its other side, within this time."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, within_seconds) * 1000))
