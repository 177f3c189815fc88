"""The ids of a job's trace, the same wherever they are worked out: logs, spans and error reports agree without a
word between them, and an attempt can point to the one before it though nothing of that one was kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

__all__ = ["Parent", "parent_of", "span_id_of", "trace_id_of"]

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class Parent(NamedTuple):
    """The span that enqueued a job (W3C trace context)."""

    trace_id: int
    span_id: int
    sampled: bool


def parent_of(options: Mapping[str, Any]) -> Parent | None:
    """Read a job's ``traceparent``; None when there is none, or one that nobody can read."""
    text = options.get("traceparent") if options else None
    found = _TRACEPARENT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    trace_id, span_id = int(found[1], 16), int(found[2], 16)
    return Parent(trace_id, span_id, bool(int(found[3], 16) & 1)) if trace_id and span_id else None


def trace_id_of(job_id: str, options: Mapping[str, Any]) -> int:
    """The trace that a job belongs to: its publisher's, else one of its own, common to all its attempts."""
    parent = parent_of(options)
    return parent.trace_id if parent else _number(f"trace {job_id}", 16)


def span_id_of(job_id: str, attempt: int, crashes: int = 0) -> int:
    """The span of one attempt."""
    return _number(f"span {job_id} {attempt} {crashes}", 8)


def _number(text: str, size: int) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=size).digest(), "big") or 1
