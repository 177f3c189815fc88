"""Redis's time without asking Redis each time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fourlane.errors import RedisUnavailable
from fourlane.queues.redis import clock
from fourlane.queues.redis.clock import RedisClock

START = 1_000.0


class Machine:
    """Its two clocks, and Redis's, which is a minute ahead."""

    def __init__(self) -> None:
        self.seconds = START
        self.wall_ahead = 5_000.0
        self.asked = 0
        self.away = False

    def monotonic(self) -> float:
        return self.seconds

    def time(self) -> float:
        return self.seconds + self.wall_ahead

    def redis_ms(self) -> int:
        return int((self.seconds + 5_060.0) * 1000)

    def ask(self) -> int:
        self.asked += 1
        if self.away:
            raise RedisUnavailable("away")
        return self.redis_ms()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(clock, "time", made)
    return made


def passes(seconds: float) -> Callable[[Machine], None]:
    def change(machine: Machine) -> None:
        machine.seconds += seconds

    return change


def is_set(seconds: float) -> Callable[[Machine], None]:
    def change(machine: Machine) -> None:
        machine.wall_ahead += seconds

    return change


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        (passes(0.0), 1),
        (passes(599.0), 1),
        (passes(600.0), 2),
        (is_set(0.9), 1),  # NTP moves it a little
        (is_set(-3_600.0), 2),
        (is_set(3_600.0), 2),
    ],
)
def test_when_redis_is_asked_again(machine: Machine, change: Callable[[Machine], None], asked: int) -> None:
    made = RedisClock(machine.ask)
    assert made.now_ms() == machine.redis_ms()
    change(machine)
    assert made.now_ms() == machine.redis_ms()
    assert machine.asked == asked


def test_while_redis_is_away(machine: Machine) -> None:
    made = RedisClock(machine.ask)
    machine.away = True
    assert made.now_ms() == int(machine.time() * 1000), "its own time, for it knows no other"
    machine.seconds += 9.0
    made.now_ms()
    assert machine.asked == 1, "not at each call"
    machine.away = False
    machine.seconds += 1.0
    assert made.now_ms() == machine.redis_ms()
    machine.away = True
    machine.seconds += 700.0
    assert made.now_ms() == machine.redis_ms(), "as it was known last"
