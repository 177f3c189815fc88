"""Ids of traces, as a table."""

from __future__ import annotations

import pytest

from fourlane.observe import ids


@pytest.mark.parametrize(
    ("header", "known"),
    [
        (f"00-{'a' * 32}-{'b' * 16}-01", True),
        (f"00-{'0' * 32}-{'b' * 16}-01", False),
        ("nonsense", False),
        (7, False),
    ],
)
def test_a_traceparent_that_cannot_be_read_is_none(header: object, known: bool) -> None:
    assert (ids.parent_of({"traceparent": header}) is not None) is known
    assert ids.trace_id_of("1", {"traceparent": header}) > 0
