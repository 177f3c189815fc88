"""What is told of calls."""

from __future__ import annotations

import pytest

from fourlane.providers.ai import Answer, Usage
from fourlane.tasks.ai.figures import label, tokens_a_second
from fourlane.tasks.ai.whose import NOBODY

RATES = [
    # tokens, first piece after, seconds in all, tokens a second
    (100, 500, 2.5, 50.0),
    (100, 0, 2.5, 0.0),  # nothing came as it was written
    (100, 500, 0.51, 0.0),  # all of it came at once
    (0, 500, 2.5, 0.0),
]


@pytest.mark.parametrize(("tokens", "first_ms", "seconds", "rate"), RATES)
def test_how_fast_an_answer_was_written(tokens: int, first_ms: int, seconds: float, rate: float) -> None:
    assert tokens_a_second(Answer(usage=Usage(output_tokens=tokens), first_ms=first_ms), seconds) == rate


@pytest.mark.parametrize(
    ("tenant", "shown"), [(None, NOBODY), ("", NOBODY), ("  a\n b ", "a b"), ("x" * 200, "x" * 100)]
)
def test_a_tenant_is_a_label_of_one_line(tenant: str | None, shown: str) -> None:
    assert label(tenant) == shown
