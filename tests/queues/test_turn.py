"""The words of a turn, as tables: no server."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fourlane.outcome import Back, Dead, Outcome, Result, Retry, Stepped
from fourlane.queues.keys import ServiceKeys
from fourlane.queues.turn import Ask, First, Leased, Turn, read_turn, turn_words

KEYS = ServiceKeys("fourlane", "local", "mail")


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Ask(), ["", 5_000, 5_000, 0, 0, 7, 8, 0, "", "", ""]),
        (Ask(look=True, beat=True, watch=True, held=3), ["beat look watch", 5_000, 5_000, 0, 3, 7, 8, 0, "", "", ""]),
        (Ask(2, "013", First("3", 1), ages=True), ["ages", 5_000, 5_000, 0, 0, 7, 8, 2, "013", "3:1", ""]),
    ],
)
def test_what_is_asked(ask: Ask, words: list[Any]) -> None:
    names, said = turn_words(KEYS, "w.0", ask, done=["1a"], dead=(7, 8))
    assert said == ["w.0", *words, 1, "1a"]
    assert names == [*KEYS.all, KEYS.leased("w.0")]


@pytest.mark.parametrize(
    ("outcome", "words", "has_value"),
    [
        (Retry(5, b"{}", "boom"), ["retry", "1a|r", 5, b"{}", "", ""], False),
        (Stepped(Back()), ["back+", "1a|r", "", "", "", ""], False),
        (Result(b"1", 9), ["result", "1a|r", b"1", 9, "", ""], True),
        (Dead("error", "boom", b"{}"), ["dead", "1a|r", "error\nboom", b"{}", b"", 0], False),
        (Stepped(Dead("error", "boom", b"", b"1", 9)), ["dead+", "1a|r", "error\nboom", b"", b"1", 9], True),
    ],
)
def test_how_a_job_ended(outcome: Outcome, words: list[Any], has_value: bool) -> None:
    names, said = turn_words(KEYS, "w.0", Ask(), others=[("1a|r", outcome)], done_before="1;1:1", dead=(7, 8))
    assert said[-6:] == words
    values = [KEYS.result("1a")] if has_value else []
    assert names[len(KEYS.all) + 1 :] == [*values, KEYS.counted("w.0")]


@pytest.mark.parametrize(
    ("reply", "turn"),
    [
        ([], Turn()),
        ([b"gone", 1], Turn(gone=True)),
        ([b"lost", 1, b"refused", [b"1a"]], Turn(lost=True, refused=["1a"])),
        # None was not looked at; infinite is none.
        ([b"due_in", -1, b"expires_in", 40, b"workers", 2], Turn(due_in=math.inf, expires_in=40, workers=2)),
        ([b"ages", [-1, 5, -1, -1], b"news", b"d"], Turn(ages=[None, 5, None, None], news=True)),
        (
            [b"jobs", [[b"1a", b"1b|r"], [b"x", b"y"], [b"{}", b"2"]], b"more", b"12"],
            Turn(jobs=[Leased("1a", b"x", b"", 0), Leased("1b|r", b"y", b"{}", 2)], more="12"),
        ),
        ([b"faults", [b"1a", b"WRONGTYPE"], b"control", 1], Turn(faults=[("1a", "WRONGTYPE")], controlled=True)),
    ],
)
def test_what_is_told(reply: list[Any], turn: Turn) -> None:
    assert read_turn(reply) == turn
