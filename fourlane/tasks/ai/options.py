"""What the options of calls must be. Each fault names the option, and says what it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from fourlane.errors import InvalidArguments

__all__ = [
    "check_flag",
    "check_text",
    "check_whole",
    "check_words",
    "refuse_unknown",
    "several",
    "speaking_for",
    "step_name",
]

F = TypeVar("F", bound=Callable[..., Any])

_MOST_NAME: Final = 100


def check_text(what: str, value: Any) -> None:
    """Text that is not empty. Raises InvalidArguments."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidArguments(f"{what}: text that is not empty, not {value!r:.40}")


def check_words(**options: Any) -> None:
    """Text each, which may be empty. Raises InvalidArguments."""
    for what, value in options.items():
        if not isinstance(value, str):
            raise InvalidArguments(f"{what}: text, not {value!r:.40}")


def check_whole(what: str, value: Any, least: int, most: int | None = None) -> None:
    """A whole number. Raises InvalidArguments."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArguments(f"{what}: a whole number, not {value!r:.40}")
    if value < least or (most is not None and value > most):
        upper = " or more" if most is None else f" to {most:,}"
        raise InvalidArguments(f"{what} must be {least}{upper}, not {value}")


def check_flag(what: str, value: Any) -> None:
    """Raises InvalidArguments."""
    if not isinstance(value, bool):
        raise InvalidArguments(f"{what}: true or false, not {value!r:.40}")


def several(what: str, value: Any) -> Sequence[Any]:
    """A list. Raises InvalidArguments."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise InvalidArguments(f"{what}: a list of texts, not {value!r:.40}")
    return value


def step_name(name: Any, otherwise: str) -> str:
    """The name of a step. Raises InvalidArguments."""
    if name is None:
        return otherwise
    check_text("name", name)
    if len(name) > _MOST_NAME:
        raise InvalidArguments(f"name: {_MOST_NAME} characters at most, not {len(name)}")
    return str(name)


def refuse_unknown(task: str, options: Iterable[str]) -> None:
    """Raises TypeError, as Python does of a function: the task has no such option."""
    for name in options:
        raise TypeError(f"{task}() got an unexpected keyword argument {name!r}")


def speaking_for(task: str) -> Callable[[F], F]:
    """A function that takes a task's arguments in its place: what Python says of wrong ones names the task."""

    def mark(function: F) -> F:
        function.__qualname__ = task
        return function

    return mark
