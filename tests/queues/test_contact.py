"""When a silence of others proves anything."""

from __future__ import annotations

import pytest

from fourlane.queues.contact import Contact


@pytest.mark.parametrize(
    ("events", "now", "proof_at"),
    [
        ([], 0.0, 5.0),
        ([("heard", 2.0), ("heard", 4.0)], 5.5, 5.0),
        # A pause of the server or of ourselves: nobody could be heard, everybody has a whole silence from its end.
        ([("heard", 2.0), ("heard", 9.0)], 9.1, 14.0),
        # Still in it.
        ([("heard", 2.0)], 8.0, 13.0),
        # A lost connection counts from the loss.
        ([("heard", 2.0), ("broke", 3.0), ("heard", 4.0)], 4.1, 8.0),
        ([("broke", 3.0), ("broke", 7.0), ("heard", 7.5)], 7.6, 12.0),
    ],
)
def test_a_silence_is_proof_for_who_heard_redis_all_the_time(
    events: list[tuple[str, float]], now: float, proof_at: float
) -> None:
    contact = Contact(0.0)
    for what, at in events:
        getattr(contact, what)(at)
    assert contact.whole_silence_at(now) == proof_at
