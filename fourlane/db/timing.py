"""Tells how long statements take, and how many connections are open: the database's part of the figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Engine, event

from fourlane.telling import tell

__all__ = ["watch"]

_STATEMENTS: Final = frozenset(("select", "insert", "update", "delete"))
_SECONDS: Final = "database_query_seconds"
_OPEN: Final = "database_connections"
_BEGAN: Final = "fourlane_began"


def watch(engine: Engine) -> None:
    """Tell of all that goes through it."""
    for name, hear in (
        ("before_cursor_execute", _begin),
        ("after_cursor_execute", _end),
        ("handle_error", _fail),
        ("connect", _move(idle=1)),
        ("checkout", _move(in_use=1, idle=-1)),
        ("checkin", _move(in_use=-1, idle=1)),
        ("close", _move(idle=-1)),
    ):
        event.listen(engine, name, hear)


def _begin(_: Any, __: Any, ___: str, ____: Any, context: Any, _____: bool) -> None:
    setattr(context, _BEGAN, time.perf_counter())


def _end(_: Any, __: Any, statement: str, ___: Any, context: Any, ____: bool) -> None:
    _tell(statement, context)


def _fail(context: Any) -> None:
    """Also what ends in an error took its time."""
    if context.execution_context is not None:
        _tell(context.statement or "", context.execution_context)


def _tell(statement: str, context: Any) -> None:
    if (began := getattr(context, _BEGAN, None)) is None:
        return
    word = statement.lstrip()[:6].lower()
    tell.timed(_SECONDS, (word if word in _STATEMENTS else "other",), time.perf_counter() - began)


def _move(**states: int) -> Callable[..., None]:
    def hear(*_: Any) -> None:
        for state, by in states.items():
            tell.moved(_OPEN, (state,), by)

    return hear
