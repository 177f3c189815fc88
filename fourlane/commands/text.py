"""Words and tables for a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import click

__all__ = ["human_age", "lines", "moment", "short_number", "since", "table"]


def human_age(milliseconds: float | None) -> str:
    """``3m 12s``: the two largest units; ``-`` for None."""
    if milliseconds is None:
        return "-"
    seconds = int(milliseconds / 1000)
    if seconds < 1:
        return f"{max(0, int(milliseconds))}ms"
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if seconds >= size or parts:
            parts.append(f"{seconds // size}{unit}")
            seconds %= size
    return " ".join(part for part in parts[:2] if part[0] != "0")


def short_number(number: int | None) -> str:
    """``1.05M``, ``128k``; empty for None."""
    if number is None:
        return ""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def since(at_ms: int | None) -> str:
    return "-" if at_ms is None else human_age(max(0.0, time.time() * 1000 - at_ms)) + " ago"


def moment(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_ms / 1000))


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], nothing: str) -> None:
    """Aligned columns, numbers to the right."""
    lines = [[_cell(value) for value in row] for row in rows]
    if not lines:
        click.echo(nothing)
        return
    widths = [max(len(line[i]) for line in [list(head), *lines]) for i in range(len(head))]
    right = [all(line[i].replace(",", "").isdigit() or line[i] == "-" for line in lines) for i in range(len(head))]
    for line in [list(head), *lines]:
        cells = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True))
        click.echo("  ".join(cells).rstrip())


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return one_line(str(value))


def one_line(text: str, most: int = 60) -> str:
    """Stored text fit for a terminal: one line, no control characters, not too long."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= most else text[: most - 1] + "…"


def lines(text: str) -> str:
    """Stored text of several lines, without the control characters that could steer a terminal."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")
