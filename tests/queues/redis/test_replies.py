"""Replies of both protocols mean the same."""

from __future__ import annotations

from typing import Any

import pytest

from fourlane.queues.redis.replies import fields, pairs, scored

FLAT = [b"a", b"1", b"b", b"2.5"]
NESTED = [[b"a", 1.0], [b"b", 2.5]]
MAP = {b"a": b"1", b"b": b"2.5"}


@pytest.mark.parametrize("reply", [FLAT, NESTED, MAP], ids=["flat", "nested", "map"])
def test_scores(reply: Any) -> None:
    assert scored(reply) == [("a", 1), ("b", 2)]


@pytest.mark.parametrize("reply", [FLAT, MAP], ids=["flat", "map"])
def test_fields(reply: Any) -> None:
    assert fields(reply) == {"a": b"1", "b": b"2.5"}


@pytest.mark.parametrize("reply", [[], {}, ()])
def test_nothing(reply: Any) -> None:
    assert list(pairs(reply)) == []
