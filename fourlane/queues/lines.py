"""Lines: so many jobs of one line run at once, whatever their tasks; the others wait in Redis, parked, in their order.

A job names its lines when it is made. It begins when it has a place in each, and holds its places until it ends; while
it waits it holds none, but in lines with an order. The places of a worker that died come back with its jobs. Waiting
costs nothing: a job is parked where it would have been leased, and who gives up a place lets the next one in
(lua/parts/lines.lua).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from fourlane.errors import InvalidOption

__all__ = ["Line", "check_line", "read_lines", "texts_of"]

_MOST_LINES: Final = 4
_MOST_PLACES: Final = 100_000
_NAME: Final = r"[A-Za-z][A-Za-z0-9._:-]{0,79}"
_is_name: Final = re.compile(_NAME).fullmatch
_parse: Final = re.compile(rf"({_NAME})=([1-9][0-9]{{0,5}})(!?)").fullmatch


class Line(NamedTuple):
    """A line that a job waits in.

    Parameters:
      name: 1 to 80 letters, digits and ``. _ : -``, beginning with a letter; one line for all tasks of a service.
      limit: how many of its jobs run at once, 1 to 100,000. The job that asked last says it.
      ordered: one at a time, in their order: one that is delayed for another try keeps its place, and those behind
        it wait.
    """

    name: str
    limit: int
    ordered: bool = False


def check_line(name: Any, limit: Any = 1) -> None:
    """Raises InvalidOption."""
    if not isinstance(name, str) or not _is_name(name):
        raise InvalidOption(f"line {name!r:.100}: 1 to 80 letters, digits and . _ : -, a letter first")
    if type(limit) is not int or not 1 <= limit <= _MOST_PLACES:
        raise InvalidOption(f"line {name}: its limit must be 1 to {_MOST_PLACES:,}, not {limit!r}")


def texts_of(lines: Sequence[Line]) -> list[str]:
    """As a body has them. Raises InvalidOption."""
    for line in lines:
        check_line(line.name, line.limit)
        if line.ordered and line.limit != 1:
            raise InvalidOption(f"line {line.name}: jobs that keep their order run one at a time: its limit must be 1")
    if len(lines) > _MOST_LINES or len({line.name for line in lines}) < len(lines):
        names = ", ".join(line.name for line in lines)
        raise InvalidOption(f"a job may wait in {_MOST_LINES} lines, each named once, not in {names:.400}")
    # Whoever waits for the next line of these keeps its places: that all take them in one order leaves no circle.
    ordered = sorted(line.name for line in lines if line.ordered)
    return [f"{name}=1!" for name in ordered] + [f"{line.name}={line.limit}" for line in lines if not line.ordered]


def read_lines(texts: Any) -> list[Line]:
    """The other way. Raises InvalidOption."""
    found = [_parse(text) for text in texts if isinstance(text, str)] if isinstance(texts, list) else [None]
    if not all(found) or len(found) < len(texts):
        raise InvalidOption(f"lines must be a list of NAME=LIMIT, not {texts!r:.200}")
    return [Line(match[1], int(match[2]), bool(match[3])) for match in found if match]
