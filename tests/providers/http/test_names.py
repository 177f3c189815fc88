"""Look-ups that take long: nobody else waits for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from fourlane.providers.http import names
from fourlane.providers.http.names import Names, registered_name


class Slow:
    """Names of evil.example take until they are released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.begun = threading.Semaphore(0)
        self.asked: list[str] = []

    def lookup(self, host: str) -> list[str]:
        self.asked.append(host)
        if host.endswith(".example"):
            self.begun.release()
            self.released.wait(30)
        return ["93.184.216.34"]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    made = Slow()
    monkeypatch.setattr(names, "_lookup", made.lookup)
    yield made
    made.released.set()


def test_slow_names_of_one_owner_leave_room_for_others(slow: Slow) -> None:
    looking = Names(most=4, most_of_one=2)
    answers = [looking.ask(f"{n}.evil.example") for n in range(20)]
    for _ in range(2):
        assert slow.begun.acquire(timeout=10)
    assert looking.ask("good.test").result(10) == ["93.184.216.34"]
    assert len(slow.asked) == 3
    slow.released.set()
    assert [answer.result(10) for answer in answers] == [["93.184.216.34"]] * 20


def test_a_name_that_nobody_waits_for_is_not_looked_up(slow: Slow) -> None:
    looking = Names(most=1)
    first = looking.ask("a.example")
    assert slow.begun.acquire(timeout=10)
    given_up, wanted = looking.ask("given-up.test"), looking.ask("wanted.test")
    given_up.cancel()
    slow.released.set()
    assert wanted.result(10)
    assert first.result(10)
    assert slow.asked == ["a.example", "wanted.test"]


def test_an_error_ends_a_lookup_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(host: str) -> list[str]:
        raise OSError("no")

    monkeypatch.setattr(names, "_lookup", fail)
    looking = Names(most=1)
    for _ in range(3):
        assert isinstance(looking.ask("a.example").exception(10), OSError)


@pytest.mark.parametrize(
    ("host", "registered"),
    [
        ("hook.example", "hook.example"),
        ("a.b.hook.example", "hook.example"),
        ("A.Hook.Example.", "hook.example"),
        ("a.shop.co.uk", "shop.co.uk"),
        ("shop.com.br", "shop.com.br"),
        ("a.hook.de", "hook.de"),
        ("hook.io", "hook.io"),
        ("localhost", "localhost"),
        ("", ""),
    ],
)
def test_who_owns_a_name(host: str, registered: str) -> None:
    assert registered_name(host) == registered
