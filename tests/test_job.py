"""What ids and entries of jobs tell."""

from __future__ import annotations

from fourlane.job import new_id, ready_since_ms


def test_an_entry_tells_since_when_it_is_ready() -> None:
    job_id = new_id(1, 1_764_000_000_123)
    assert ready_since_ms(job_id) == 1_764_000_000_123
    assert ready_since_ms(f"{job_id}|rt1764000009999") == 1_764_000_009_999
    assert ready_since_ms("1.some-uuid|r") is None
