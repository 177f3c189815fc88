"""What may hold a queue back, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from fourlane.errors import SettingsError
from fourlane.queues.limit import Limit, read_limits


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"rate": 1}, ""),
        ({"concurrency": 1}, ""),
        ({"rate": 10, "per_ms": 1_000, "burst": 20, "concurrency": 2, "paused": True}, ""),
        ({}, "give a rate or a concurrency"),
        ({"paused": True}, "give a rate or a concurrency"),
        ({"rate": 0}, "rate must be 1 or more"),
        ({"concurrency": -1}, "concurrency must be 1 or more, not -1; to stop a queue, pause it"),
        ({"rate": 1, "per_ms": 0}, "per_ms must be 1 or more"),
        ({"rate": 1, "burst": 0}, "burst must be 1 or more"),
        ({"rate": 10**9, "per_ms": 315_360_000_000, "concurrency": 10**9}, ""),
        ({"rate": 10**23}, "rate must be a whole number, 1,000,000,000 at most"),
        ({"concurrency": 10**9 + 1}, "concurrency must be a whole number"),
        ({"rate": 1, "per_ms": 10**12}, "per_ms must be a whole number, 315,360,000,000 at most"),
        ({"rate": 1.5}, "rate must be a whole number"),
        ({"concurrency": 1, "burst": 2}, "need a rate"),
        ({"concurrency": 1, "per_ms": 2}, "need a rate"),
    ],
)
def test_which_figures_make_sense(figures: dict[str, Any], words: str) -> None:
    if not words:
        Limit(**figures).check()
        return
    with pytest.raises(SettingsError, match=words):
        Limit(**figures).check()


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("", {}),
        ('{"1":{"paused":true}}', {"1": Limit(paused=True)}),
        (b'{"0":{"rate":5,"source":"task"}}', {"0": Limit(rate=5, source="task")}),
        ("no JSON", {}),
        ('{"1":{"rate":"x"}}', {}),  # what cannot be read limits nothing
    ],
)
def test_what_lies_in_redis(text: str | bytes, limits: dict[str, Limit]) -> None:
    assert read_limits(text) == limits
