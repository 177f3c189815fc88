"""What is given for many jobs, cut into calls that a server can take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

__all__ = ["batches"]

_MOST_JOBS: Final = 1_000
_MOST_BYTES: Final = 4_000_000  # hosted servers refuse requests over 10 MB


def batches(flat: Sequence[Any], step: int, most: int = _MOST_JOBS) -> Iterator[Sequence[Any]]:
    """Cut what is given for jobs, ``step`` things for each, the body being the second of them or the only one."""
    first = size = 0
    for i in range(0, len(flat), step):
        body = len(flat[i + (step > 1)])
        size += body
        if i - first >= most * step or (size > _MOST_BYTES and i > first):
            yield flat[first:i]
            first, size = i, body
    if first < len(flat):
        yield flat[first:]
