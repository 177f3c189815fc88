"""Spans of the parts of a job, where traces are on (observe/traces.py); off, one costs a look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

__all__ = ["Making", "making", "span"]

Making = Callable[[str, Mapping[str, Any]], AbstractContextManager[Any]]
"""Given a name and attributes: a span around what is done inside."""

making: Making | None = None
"""None: nobody wants spans."""

_NONE: AbstractContextManager[Any] = nullcontext()


def span(name: str, attributes: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """Enter it around a part of a job; gives the span, None when nobody wants one."""
    return _NONE if making is None else making(name, attributes)
