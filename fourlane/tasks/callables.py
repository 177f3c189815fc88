"""What kind of function a task has: whether calling it runs it, or gives something to await, or only a generator."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any, Final

from fourlane.errors import InvalidTask, Reject

__all__ = ["check_function", "is_async", "is_awaitable", "name_of"]


def _parts(function: Any) -> list[Any]:
    """The function that a call reaches at once: itself, what a partial holds, the ``__call__`` of an object.

    Not what a decorator wraps: calling that may run it to its end, give it to another loop, or not call it at all.
    """
    while isinstance(function, functools.partial):
        function = function.func
    call = None if inspect.isroutine(function) or inspect.isclass(function) else getattr(function, "__call__", None)  # noqa: B004
    return [function] if call is None else [function, call]


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call surely gives a coroutine, so that it can be made on the event loop."""
    return any(inspect.iscoroutinefunction(part) for part in _parts(function))


def is_awaitable(result: Any) -> bool:
    """Whether a function's result is still to be awaited.

    Raises:
      Reject: it is a generator or lazy as one, and nothing of it has run.
    """
    if result is None:
        return False
    if type(result) in _LAZY or inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise Reject(f"the function returned a {type(result).__name__}, and nothing of it ran: {_ADVICE}")
    return inspect.isawaitable(result)


def check_function(function: Any) -> None:
    """Raises InvalidTask."""
    if not callable(function):
        raise InvalidTask(f"a task is a function, not {type(function).__name__}")
    if any(inspect.isgeneratorfunction(part) or inspect.isasyncgenfunction(part) for part in _parts(function)):
        raise InvalidTask(
            f"{function!r} is a generator (it has a yield), and a call would run nothing of it: {_ADVICE}"
        )


def name_of(function: Any) -> str:
    """Its own name; raises InvalidTask when it has none."""
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        raise InvalidTask(f'{function!r} has no name of its own; give the task one: name="..."')
    return name


_LAZY: Final = frozenset(
    [map, filter, zip, enumerate, *(kind for kind in vars(itertools).values() if isinstance(kind, type))]
)
"""What calls functions only while somebody goes through it. Not every iterator: a file or a cursor is a value."""
_ADVICE: Final = (
    "go through it inside the function; current_job().write() sends pieces to readers, resume() goes on after a stop"
)
