"""What a call took where its provider did not say all of it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from fourlane.providers.ai import Answer, CutStream, Usage
from fourlane.tasks.ai.money.prices import count_tokens
from fourlane.tasks.ai.money.taken import Taken, completed

MOST = Usage(input_tokens=900, output_tokens=5_000)
TEXT = "twelve words of a text that goes on for quite some time yet " * 20
WROTE = count_tokens(TEXT)
BEGUN = Usage(input_tokens=100, output_tokens=1)


@pytest.mark.parametrize(
    ("answer", "taken"),
    [
        (Answer(text=TEXT, usage=BEGUN), replace(BEGUN, output_tokens=WROTE, told=False)),
        (Answer(text="", usage=BEGUN), replace(BEGUN, told=False)),  # it may have thought
        (
            Answer(text=TEXT, usage=Usage(input_tokens=100, output_tokens=50, reasoning_tokens=50)),
            Usage(input_tokens=100, output_tokens=WROTE + 50, reasoning_tokens=50, told=False),
        ),
        (
            Answer(text="few", usage=Usage(input_tokens=100, output_tokens=700)),
            Usage(input_tokens=100, output_tokens=700, told=False),
        ),
        (Answer(text=TEXT, finish="stop", usage=BEGUN), BEGUN),
        (Answer(text=TEXT, usage=replace(BEGUN, billed_usd=Decimal(1))), replace(BEGUN, billed_usd=Decimal(1))),
        (Answer(text=TEXT, finish="stop", usage=Usage()), replace(MOST, output_tokens=WROTE, told=False)),
        (
            Answer(text=TEXT, finish="stop", usage=Usage(input_tokens=100)),
            Usage(input_tokens=100, output_tokens=WROTE, told=False),
        ),
        (
            Answer(text=TEXT, finish="stop", usage=Usage(output_tokens=1)),
            replace(MOST, output_tokens=WROTE, told=False),
        ),
        (Answer(text=TEXT, finish="stop", usage=Usage(audio_seconds=2.0)), Usage(audio_seconds=2.0)),
        (Answer(vectors=((0.5,),), finish="stop", usage=Usage()), replace(MOST, output_tokens=0, told=False)),
        (Answer(outcome="empty", finish="stop", usage=Usage()), Usage()),
    ],
)
def test_what_a_provider_left_out_is_estimated(answer: Answer, taken: Usage) -> None:
    assert completed(MOST, answer) == taken


def test_a_try_that_broke_off_counts_what_came_of_it() -> None:
    taken = Taken(MOST)
    taken.begin()
    taken.heard(TEXT)
    assert taken.broke(CutStream("cut", Answer(usage=BEGUN))).usage.output_tokens == WROTE
    taken.begin()
    taken.answered(Answer(text=TEXT, finish="end_turn", usage=replace(BEGUN, output_tokens=200)))
    assert (taken.total.output_tokens, taken.total.told) == (WROTE + 200, False)
