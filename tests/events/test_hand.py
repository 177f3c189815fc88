"""What a receiver leaves when it dies, and suspects who begin alone."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator

import pytest

from fourlane.events import hand as hands
from fourlane.events import messages
from fourlane.events.aws import Aws
from fourlane.events.hand import Gate, Hand, give_back, left_in
from fourlane.events.names import EventQueue
from fourlane.events.publisher import Publisher
from fourlane.events.tries import Tries
from fourlane.queues.broker import RedisBroker
from fourlane.queues.claims import Claim, Claims
from tests.servers import eventually


@pytest.fixture
def fd() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def test_what_is_in_hand_lies_in_the_file(
    aws: Aws, publisher: Publisher, queue: EventQueue, event: str, fd: int
) -> None:
    publisher.publish_many(event, range(4))
    got = [message for _ in range(4) for message in messages.receive(aws, queue, most=1)]
    hands.set_receiving(fd, True)
    hand = Hand(fd)
    hand.take(queue, got[:3])
    hand.begin(got[1:2])
    hand.claim(got[1], "w1", [("mail", "1abc")])
    hand.drop(got[:1])
    hand.take(queue, got[3:])
    assert {h.handle for h in left_in(fd)} == {m.handle for m in got[1:]}
    [begun] = [h for h in left_in(fd) if h.begun]
    assert (begun.queue, begun.id, begun.owner) == (queue.sqs_name, got[1].id, "w1")
    assert begun.claims == [("mail", "1abc")]
    os.pwrite(fd, b'["torn\n', 2 * 4_096)
    assert {h.handle for h in left_in(fd)} == {got[2].handle, got[3].handle}, "what it was writing is not known"
    hands.set_receiving(fd, True)
    assert (left_in(fd), hands.is_receiving(fd)) == ([], True)


def test_what_is_left_comes_back_at_once_and_deaths_are_counted(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str
) -> None:
    """A death in company makes suspects only; one alone counts, by SIGKILL half as much."""
    store, tries, claims = broker.store, Tries(broker.store), Claims(broker.store)
    publisher.publish_many(event, range(2))
    rows = [
        ((0, 1), False, (0, 1)), ((0, 1), False, (0, 2)), ((0, 1), False, (0, 2)),
        ((0,), True, (1, 2)), ((0,), False, (3, 2)), ((), False, (3, 2)), ((0,), False, (5, 2)), ((0,), False, (6, 2)),
    ]  # fmt: skip
    for begun, killed, expected in rows:
        got = sorted(messages.receive(aws, queue, visibility_seconds=600), key=lambda m: m.body)
        assert len(got) == 2, "at once"
        claims.claim("mail", "1abc", "w1", 60_000)
        hand = Hand()
        hand.settled_by = lambda left, died, killed=killed: give_back(aws, store, left, died=True, killed=killed)
        hand.take(queue, got)
        hand.begin([got[number] for number in begun])
        hand.claim(got[0], "w1", [("mail", "1abc")])
        hand.give_back()
        assert claims.claim("mail", "1abc", "w2", 60_000) is Claim.MINE, "its claim is free"
        claims.release("mail", "1abc", "w2")
        found = tries.read(got[0].id)
        assert (found.points, found.company) == expected
        assert found.is_suspect == (expected != (0, 1))
        assert found.is_poison == (expected == (6, 2))
    innocent = tries.read(got[1].id)
    assert innocent.is_suspect
    assert innocent.points == 0


def test_a_suspect_begins_alone_and_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hands, "_ALONE_SECONDS", 0.5)
    gate, inside, most = Gate(), [0], [0]
    leave = threading.Event()

    def run(suspect: bool) -> None:
        with gate.through(suspect=suspect):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            leave.wait(5)
            inside[0] -= 1

    first = threading.Thread(target=run, args=(False,))
    first.start()
    eventually(lambda: inside[0] == 1)
    others = [threading.Thread(target=run, args=(suspect,)) for suspect in (True, False)]
    for other in others:
        other.start()
    leave.wait(0.2)
    assert inside[0] == 1, "they wait"
    eventually(lambda: inside[0] == 3, 3)  # the first one stays: not for ever
    leave.set()
    for thread in (first, *others):
        thread.join(5)
    leave.clear()
    alone = [threading.Thread(target=run, args=(True,)) for _ in range(2)]
    most[0] = 0
    for one in alone:
        one.start()
    eventually(lambda: inside[0] == 1)
    leave.set()
    for one in alone:
        one.join(5)
    assert inside[0] == 0
