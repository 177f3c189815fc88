"""How the command writes figures, as a table."""

from __future__ import annotations

import pytest

from fourlane.commands.text import human_age
from tests.command import command as command


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (None, "-"),
        (0, "0ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (192_000, "3m 12s"),
        (3_600_000, "1h"),
        (3_605_000, "1h"),
        (90_061_000, "1d 1h"),
    ],
)
def test_human_age(milliseconds: int | None, words: str) -> None:
    assert human_age(milliseconds) == words
