"""Spans of what a job does inside, where traces are on (observe/traces.py); off, one costs a look."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

__all__ = ["Making", "making", "span"]


class Making(Protocol):
    """Makes a span around what is done inside, of a call to others when it is ``outgoing``."""

    def __call__(self, name: str, attributes: Mapping[str, Any], outgoing: bool) -> AbstractContextManager[Any]: ...


making: Making | None = None
"""None: nobody wants spans."""

_NONE: AbstractContextManager[Any] = nullcontext()


def span(name: str, attributes: Mapping[str, Any], *, outgoing: bool = False) -> AbstractContextManager[Any]:
    """Enter it around a part of a job; gives OpenTelemetry's span, None when nobody wants one."""
    return _NONE if making is None else making(name, attributes, outgoing)
