"""What becomes of jobs whose end Redis refused to write."""

from __future__ import annotations

from typing import Final

from fourlane.outcome import Back, Dead, Outcome, Stepped
from fourlane.reasons import REJECTED

__all__ = ["as_refused", "instead_of"]

_WORDS: Final = "Redis refused to keep how it ended: "


def as_refused(why: str) -> Dead:
    """A dead letter that says so."""
    return Dead(REJECTED, f"{_WORDS}{why}"[:1000], b"")


def instead_of(outcome: Outcome, why: str) -> Dead | Back:
    """What to try in its place: a dead letter that says so, then the way back to its queue. When that was refused too,
    nothing else is left, and who settles it waits before it tries again."""
    plain = outcome.outcome if isinstance(outcome, Stepped) else outcome
    if isinstance(plain, Back) or (isinstance(plain, Dead) and plain.detail.startswith(_WORDS)):
        return Back()
    return as_refused(why)
