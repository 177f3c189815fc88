"""How long Bird waited, before and during the attack, and whether that is as it should be."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["FLOOR_MS", "MOST", "Waits", "judged", "table"]

MOST: Final = 1.5
FLOOR_MS: Final = 50.0
"""Beside the ratio, a twentieth of what a P0 job may wait: half of 5 ms is less than what busy cores cost anybody."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Of one kind of work, in milliseconds."""

    name: str
    quiet: Sequence[float]
    attacked: Sequence[float]

    def at(self, percent: int) -> tuple[float, float]:
        """The percentile of both; 100 is the longest."""
        return _percentile(self.quiet, percent), _percentile(self.attacked, percent)


def _percentile(values: Sequence[float], percent: int) -> float:
    if len(values) < 2 or percent == 100:
        return max(values, default=0.0)
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def judged(waits: Waits) -> str | None:
    """What is wrong with them."""
    quiet, attacked = waits.at(95)
    most = MOST * quiet + FLOOR_MS
    if attacked <= most:
        return None
    return f"{waits.name}: p95 was {attacked:.1f} ms under attack, {quiet:.1f} ms before; {most:.1f} ms is allowed"


def table(several: Sequence[Waits]) -> Iterator[str]:
    """As lines of text."""
    yield f"{'':28}{'':10}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}"
    for waits in several:
        columns = [waits.at(percent) for percent in (50, 95, 99, 100)]
        for number, (phase, values) in enumerate((("quiet", waits.quiet), ("attacked", waits.attacked))):
            numbers = "".join(f"{column[number]:9.1f}" for column in columns)
            yield f"{waits.name if number == 0 else '':28}{phase:10}{numbers} ms, {len(values)} of them"
        ratios = "".join(f"{after / before if before else 0:9.2f}" for before, after in columns)
        yield f"{'':28}{'ratio':10}{ratios} times"
