"""One tree of errors: whoever catches FourlaneError catches all of ours."""

from __future__ import annotations

from collections import Counter
from functools import cache
from importlib import import_module
from pathlib import Path

from dramatiq.errors import DramatiqError

from fourlane import errors
from fourlane.queues.redis import failures
from tests.test_structure import modules


@cache
def ours() -> list[type[BaseException]]:
    """All classes of errors that any module of ours defines."""
    names = [name for name in sorted(modules()) if not name.endswith(".__main__")]
    return [
        value
        for name in names
        for value in vars(import_module(name)).values()
        if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == name
    ]


def test_all_errors_are_of_one_tree() -> None:
    """But for what stands for redis-py's errors, which is a cause and is never raised to callers."""
    roots = (errors.FourlaneError, errors.Cancelled, failures.RedisError)
    assert [error for error in ours() if not issubclass(error, roots)] == []


def test_no_two_errors_have_one_name() -> None:
    assert [name for name, count in Counter(error.__name__ for error in ours()).items() if count > 1] == []


def test_each_error_says_when_it_is_raised() -> None:
    assert [error for error in ours() if not error.__doc__] == []


def test_the_tree_is_drawn_as_it_is() -> None:
    """The head of errors.py names all that are there, and those alone that are elsewhere for dramatiq's sake."""
    drawn = {line.lstrip("│├└─ ").split()[0] for line in (errors.__doc__ or "").splitlines() if "── " in line}
    there = {error.__name__ for error in ours() if error.__module__ == "fourlane.errors"}
    dramatiqs = {error.__name__ for error in ours() if issubclass(error, DramatiqError)}
    assert drawn | {"FourlaneError", "Cancelled"} == there | dramatiqs
    assert {*errors.__all__} == there


def test_errors_need_nothing() -> None:
    assert "import dramatiq" not in Path(errors.__file__).read_text()
