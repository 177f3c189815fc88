"""Secrets in values: mappings, lists and what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fourlane.redact.keys import ITS_NAME, ITS_VALUE, REDACTED, is_secret
from fourlane.redact.texts import redact_text

__all__ = ["redact"]

_DEEPEST: Final = 8
_LONG_NUMBER: Final = 10**12
_NAMES: Final = ITS_NAME.split("|")
_VALUES: Final = frozenset(ITS_VALUE.split("|"))


def redact(value: Any, key: str = "", depth: int = 0) -> Any:
    """A copy that may be shown, of plain values only. What lies deeper than 8 levels is left out."""
    if key and value is not None and not isinstance(value, bool) and is_secret(key, value):
        return REDACTED
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        if depth >= _DEEPEST:
            return "…"
        return _redact_mapping(value, depth) if isinstance(value, Mapping) else _redact_row(value, depth)
    if isinstance(value, int) and abs(value) >= _LONG_NUMBER:
        shown = redact_text(str(value)) if abs(value) < _LONG_NUMBER**3 else REDACTED
        return value if shown == str(value) else shown
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return redact_text(_text(value))


def _redact_mapping(given: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    """With the key of a value by the value's, or told beside it."""
    by_name = {_text(name).lower(): value for name, value in given.items()}
    told = next((by_name[name] for name in _NAMES if isinstance(by_name.get(name), (str, bytes))), None)
    shown = {}
    for name, value in given.items():
        key = _text(name)
        of_told = told is not None and key.lower() in _VALUES
        shown[redact_text(key)] = redact(
            value, _text(told) if of_told and not is_secret(key, value) else key, depth + 1
        )
    return shown


def _redact_row(given: Iterable[Any], depth: int) -> list[Any]:
    """A pair is a key and its value, and an option of a command line is the key of what follows it."""
    row = list(given)
    keys = [""] * len(row)
    if len(row) == 2 and _is_text(row[0]) and _is_text(row[1]):
        keys[1] = _text(row[0])
    for place, value in enumerate(row[:-1], 1):
        if _is_text(value) and (option := _text(value)).startswith("-") and "=" not in option:
            keys[place] = option.lstrip("-")
    return [redact(value, key, depth + 1) for value, key in zip(row, keys, strict=True)]


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, bytes))


def _text(value: Any) -> str:
    try:
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    except Exception:
        return f"<{type(value).__name__}>"
