"""Judges JSON by a schema in a time that has a bound: while it takes, nothing else runs in this process."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache, lru_cache
from math import prod
from typing import Any, Final

from fourlane.errors import FourlaneError

__all__ = ["TooMuch", "faults_of", "refused_pattern"]

_MOST_STEPS: Final = 200_000
"""A second or two at the worst; the longest answer of a model takes about half of it."""
_MOST_WEIGHT: Final = 5_000
_MOST_CHARACTERS: Final = 1_000
_CHARACTERS_A_STEP: Final = 2_000
"""Of a text, times the weight of the pattern that looks at it."""
_TOO_LARGE: Final = r"is too large; write a shorter one, with smaller counts, and [A-Za-z0-9_] in place of \w"
_COUNTED: Final = re.compile(r"(\))?\{(\d*),?(\d*)\}")


class TooMuch(FourlaneError):
    """There is more to look at than the steps allow."""


class _Steps:
    def __init__(self) -> None:
        self.left = _MOST_STEPS

    def take(self, steps: int = 1) -> None:
        self.left -= steps
        if self.left < 0:
            raise TooMuch


_steps: ContextVar[_Steps] = ContextVar("fourlane_steps_of_judging")


def faults_of(schema: Mapping[str, Any], value: Any) -> Iterator[str]:
    """What of a value does not keep the schema, with its path. Raises TooMuch, RecursionError."""
    _steps.set(_Steps())
    for error in _judge()(schema).iter_errors(value):
        yield f"{error.json_path}: {error.message:.200}"


def refused_pattern(pattern: str) -> str:
    """Why texts are not judged by a pattern; empty where they are."""
    if len(pattern) > _MOST_CHARACTERS or _weight(pattern) > _MOST_WEIGHT:
        return _TOO_LARGE
    try:
        _pattern(pattern)
    except ValueError as error:
        if "size limit" in str(error):
            return _TOO_LARGE
        told = str(error).strip().rpartition("\n")[2].removeprefix("error: ")
        return f"{told[:200]}; write one without look-around and references back, or leave it out"
    return ""


def _weight(pattern: str) -> int:
    """About how many states a pattern has; counts of groups multiply what is in them."""
    counts = [(bool(group), int(f"0{most or least}"[:9])) for group, least, most in _COUNTED.findall(pattern)]
    single = sum(count for is_group, count in counts if not is_group)
    return (len(pattern) + single) * prod(max(1, count) for is_group, count in counts if is_group)


@lru_cache(256)
def _pattern(pattern: str) -> Callable[[str], bool]:
    """Whether a text has it, in a time that grows with the text's length alone. Raises ValueError."""
    from typing import Annotated

    from pydantic import StringConstraints, TypeAdapter, ValidationError
    from pydantic_core import SchemaError

    try:
        adapter = TypeAdapter(Annotated[str, StringConstraints(pattern=pattern, strict=True)])
    except SchemaError as error:
        raise ValueError(str(error)) from None

    def has(text: str) -> bool:
        try:
            adapter.validate_python(text)
        except ValidationError:
            return False
        return True

    return has


def _has(pattern: str, text: str) -> bool:
    _steps.get().take(1 + len(text) * _weight(pattern) // _CHARACTERS_A_STEP)
    return _pattern(pattern)(text)


@cache
def _judge() -> Any:
    """The library's own class, with keywords of ours where its take too long."""
    from jsonschema import Draft202012Validator, validators

    theirs = Draft202012Validator.VALIDATORS
    ours = {
        "pattern": _keeps_pattern,
        "patternProperties": _properties_by_pattern,
        "additionalProperties": _additional(theirs["additionalProperties"]),
        "uniqueItems": _unique,
    }
    return validators.extend(
        Draft202012Validator, {name: _counted(keyword) for name, keyword in {**theirs, **ours}.items()}
    )


def _counted(keyword: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    def look(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
        _steps.get().take()
        for fault in keyword(validator, wanted, value, schema) or ():
            _steps.get().take()  # each goes up through all levels
            yield fault

    return look


def _keeps_pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(value, str) and not _has(pattern, value):
        yield ValidationError(f"{value[:60]!r} does not match {pattern[:100]!r}")


def _properties_by_pattern(validator: Any, patterns: Mapping[str, Any], value: Any, schema: Any) -> Iterator[Any]:
    for pattern, described in patterns.items() if isinstance(value, dict) else ():
        for name, held in value.items():
            if _has(pattern, name):
                yield from validator.descend(held, described, path=name, schema_path=pattern)


def _additional(theirs: Callable[..., Any]) -> Callable[..., Any]:
    def look(validator: Any, described: Any, value: Any, schema: Any) -> Iterable[Any]:
        patterns = schema.get("patternProperties")
        if not patterns or not isinstance(value, dict):
            return theirs(validator, described, value, schema) or ()
        others = {name: held for name, held in value.items() if not any(_has(one, name) for one in patterns)}
        return theirs(validator, described, others, {"properties": schema.get("properties", {})}) or ()

    return look


def _unique(validator: Any, wanted: bool, value: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if wanted and isinstance(value, list) and len({_hashable(one) for one in value}) < len(value):
        yield ValidationError("has an item twice")


def _hashable(value: Any) -> Any:
    """Equal for what JSON takes for equal: 1 and 1.0, but not 1 and true."""
    _steps.get().take()
    if isinstance(value, dict):
        return "{", frozenset((name, _hashable(held)) for name, held in value.items())
    if isinstance(value, list):
        return "[", tuple(map(_hashable, value))
    return (type(value), value) if isinstance(value, bool) else value
