"""Imports the modules that declare tasks; what is wrong with one is told in a line."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import traceback
from collections.abc import Iterable
from typing import Any, Final

import dramatiq
import dramatiq.broker

from fourlane.errors import ModuleError

__all__ = ["import_module", "import_modules", "place_of"]

_TWICE: Final = re.compile(r"An actor named '(.+)' is already registered\.")


def import_modules(modules: Iterable[str]) -> None:
    """Import the modules that declare tasks. Raises ModuleError."""
    for module in modules:
        import_module(module)


def import_module(module: str) -> None:
    """Import ``package.module``, or ``package.module:attribute``, which must be there then.

    As for dramatiq's own worker, the attribute may be the broker to serve, or a function that sets one up.

    Raises ModuleError: it cannot be imported; says why, and where.
    """
    name, _, attribute = module.partition(":")
    try:
        loaded: Any = importlib.import_module(name)
        for part in attribute.split(".") if attribute else ():
            loaded = getattr(loaded, part)
        if isinstance(loaded, dramatiq.Broker):
            dramatiq.set_broker(loaded)
        elif attribute and not isinstance(loaded, dramatiq.Actor):
            if not callable(loaded) or inspect.iscoroutinefunction(loaded):
                raise ModuleError(f"{module!r} is neither a broker nor a plain function that sets one up")
            loaded()
    except ModuleError:
        raise
    except (Exception, SystemExit) as error:
        raise ModuleError(f"module {module!r} cannot be imported: {_reason(error, name)}") from error


def _reason(error: BaseException, name: str) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
        return f"{error}; is it in this folder, or installed?"
    if isinstance(error, SyntaxError):
        return text  # it names file and line itself
    place = place_of(error)
    twice = _TWICE.search(str(error))
    if twice is not None:
        first = _declared(twice[1])
        return f"two tasks are named {twice[1]!r}: the first in {first}, the second in {place}; rename one of them"
    return f"{text} ({place})" if place else text


def place_of(error: BaseException) -> str:
    """The line of the user's code that led to the error."""
    machinery = [os.path.dirname(str(part.__file__)) + os.sep for part in (importlib, dramatiq)]
    ours = (os.path.dirname(os.path.dirname(__file__)) + os.sep, "<frozen", *machinery)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(ours)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def _declared(task: str) -> str:
    """Where a task is declared."""
    actor = dramatiq.broker.get_broker().actors[task]
    function: Any = inspect.unwrap(getattr(actor, "original", actor.fn))
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}, line {code.co_firstlineno}" if code is not None else f"{function!r}"
