"""How messages are put into calls, without any SQS."""

from __future__ import annotations

import pytest

from fourlane.events.names import EventQueue, parse_event
from fourlane.events.outgoing import Outgoing, batches

SIGNUP = EventQueue("local", parse_event("platform.user-signup", "local"), False)
LOGIN = EventQueue("local", parse_event("audit.login", "local"), False)


@pytest.mark.parametrize(
    ("messages", "calls"),
    [
        ([], []),
        ([(SIGNUP, 10)] * 3, [3]),
        # SQS takes ten in a call.
        ([(SIGNUP, 1)] * 25, [10, 10, 5]),
        # And so many bytes in all: the limit itself still fits.
        ([(SIGNUP, 50)] * 5, [2, 2, 1]),
        ([(SIGNUP, 60)] * 3, [1, 1, 1]),
        # One that is too large by itself goes alone; SQS says what it thinks of it.
        ([(SIGNUP, 1), (SIGNUP, 101), (SIGNUP, 1)], [1, 1, 1]),
        # A call is for one queue, and nothing is put before what came first.
        ([(SIGNUP, 1), (LOGIN, 1), (SIGNUP, 1)], [1, 1, 1]),
    ],
)
def test_batches(messages: list[tuple[EventQueue, int]], calls: list[int]) -> None:
    outgoing = [Outgoing(str(number), queue, {}, size) for number, (queue, size) in enumerate(messages)]
    made = list(batches(outgoing, 100))
    assert [len(batch) for batch in made] == calls
    assert [one for batch in made for one in batch] == outgoing
