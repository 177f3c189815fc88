"""What is listened for while the loop waits, as a table: no server, and the clock is given."""

from __future__ import annotations

import pytest

from fourlane.worker.loop.hearing import NEWS, UNHEARD_SECONDS, WATCH, Hearing

NOW = 1_000.0
P0, P1, P2, P3 = (1 << tier for tier in range(4))


@pytest.mark.parametrize(
    ("tiers", "maybe", "alone", "wants"),
    [
        # With nothing known anything is news.
        ("0123", "", False, P0 | P1 | P2 | P3 | NEWS | WATCH),
        ("2", "", False, P2 | NEWS | WATCH),
        # A service that may have jobs is asked anyway: only what is better is news.
        ("0123", "2", False, P0 | P1 | NEWS | WATCH),
        ("0123", "13", False, P0 | NEWS | WATCH),
        ("0123", "0", False, NEWS | WATCH),
        # The only one that is asked is asked in each round.
        ("0123", "2", True, 0),
        ("0123", "", True, P0 | P1 | P2 | P3 | NEWS | WATCH),
    ],
)
def test_what_is_listened_for(tiers: str, maybe: str, alone: bool, wants: int) -> None:
    hearing = Hearing(tiers)
    assert hearing.wants(set(maybe), alone) == wants
    assert hearing.is_deaf(set(maybe), alone) == (wants > 0)
    hearing.begin(wants)
    assert not hearing.is_deaf(set(maybe), alone)


@pytest.mark.parametrize(
    ("holds", "seconds", "hears"),
    [
        (False, 0.0, False),  # another worker's, for a moment
        (False, UNHEARD_SECONDS, True),
        (True, UNHEARD_SECONDS, False),  # who holds leases looks without being told
    ],
)
def test_a_word_to_watch_that_was_handed_on_is_not_heard_again(holds: bool, seconds: float, hears: bool) -> None:
    hearing = Hearing("1")
    hearing.hand_watch_on(NOW)
    assert hearing.hears_again(NOW + seconds, holds) is hears
    assert hearing.wants(set(), False) == P1 | NEWS | (WATCH if hears else 0)
