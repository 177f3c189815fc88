"""Turns at calling somebody who takes so many calls a second."""

from __future__ import annotations

import threading
import time

import pytest

from fourlane.errors import ProviderLimited
from fourlane.queues.guards import Turns
from fourlane.queues.store import Store


def test_whoever_waits_is_given_a_turn_of_its_own(store: Store) -> None:
    turns, taken = Turns(store), []

    def take() -> None:
        for _ in range(5):
            turns.take("resend", "a", per_second=50, patience_seconds=5)
            taken.append(time.monotonic())

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # 20 turns, 25 ms apart.
    assert max(taken) - min(taken) >= 19 * 0.025 - 0.05


def test_who_would_wait_for_too_long_is_told_when_to_come(store: Store) -> None:
    turns = Turns(store)
    turns.take("resend", "a", per_second=1, patience_seconds=0)
    told = []
    for _ in range(3):
        with pytest.raises(ProviderLimited) as refused:
            turns.take("resend", "a", per_second=1, patience_seconds=0)
        told.append(refused.value.delay_ms)
    # One after the other, not all at once.
    assert [round(ms / 1_250) for ms in told] == [1, 2, 3]
    turns.take("resend", "b", per_second=1, patience_seconds=0)  # another account


def test_who_is_patient_goes_before_those_who_come_again(store: Store) -> None:
    turns = Turns(store)
    turns.take("resend", "a", per_second=1, patience_seconds=0)
    for _ in range(10):
        with pytest.raises(ProviderLimited):
            turns.take("resend", "a", per_second=1, patience_seconds=0)
    began = time.monotonic()
    turns.take("resend", "a", per_second=1, patience_seconds=20)
    assert time.monotonic() - began < 2
