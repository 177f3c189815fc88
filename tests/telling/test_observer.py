"""One way to be told: everything of a job's life is heard, what fails there harms nobody, and where nobody hears
nothing is called."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from fourlane import telling
from fourlane.meter import meter
from fourlane.observe.lines import Lines, LinesOfAll
from fourlane.observe.meter import Meter, Writer
from fourlane.outcome import PLAIN, Back, Done, Outcome
from fourlane.providers.health import HealthGuard, Rules, Signal, Target
from fourlane.queues.broker import RedisBroker
from fourlane.queues.guards import ProviderStates
from fourlane.tasks.steps import step
from fourlane.tasks.task import task
from fourlane.telling import Ends, Observer, Span, Telling
from tests.conftest import Hear
from tests.servers import eventually
from tests.worker.conftest import RunWorker
from tests.worker.conftest import run_worker as run_worker

TOLD = [name for name in vars(Observer) if not name.startswith("_")]


class Recorder(Observer):
    """Keeps the names of what it hears, with what tells one from another."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @contextmanager
    def sending(self, queue: str, task: str, number: int = 1) -> Iterator[Mapping[str, str]]:
        self.heard.append(f"sending {task} to {queue}")
        yield {"user_id": "u1"}
        self.heard.append(f"sent {task}")

    def began(self, run: Any) -> None:
        self.heard.append(f"began attempt {run.attempt} of {run.envelope.options['user_id']}")

    def failed(self, run: Any, error: BaseException, outcome: Outcome) -> None:
        self.heard.append(f"failed: {error}")

    def ended(self, run: Any, outcome: Outcome, error: BaseException | None) -> None:
        self.heard.append(f"ended {type(outcome).__name__}")

    def done(self, run: Any) -> None:
        self.heard.append("done")

    def turned(self, ends: Ends) -> None:
        self.heard += [f"turned {ends.service} {type(outcome).__name__}" for _, outcome in ends.runs]

    @contextmanager
    def span(
        self, name: str, attributes: Mapping[str, Any], *, outgoing: bool = False, judged: bool = False
    ) -> Iterator[Span]:
        self.heard.append(f"{name} begins")
        yield Span()
        self.heard.append(f"{name} ends")

    def counted(self, name: str, labels: tuple[str, ...], value: float = 1) -> None:
        if name != "turns" and value:  # not that it is there, from zero
            self.heard.append(f"{name} {' '.join(labels)}")


def test_an_observer_hears_all_of_a_jobs_life(broker: RedisBroker, run_worker: RunWorker, hear: Hear) -> None:
    guard = HealthGuard(ProviderStates(broker.store))
    tried: list[int] = []

    @task(max_retries=1, min_backoff=1, max_backoff=1)
    def buy() -> None:
        with step("pay"):
            guard.call(Target("stripe"), Rules(), lambda permit: None, read=lambda error: Signal("neutral"))
        meter.count("ai_cost_usd", ("openai", "gpt-4o", "org_7"), 0.0123)
        tried.append(1)
        if len(tried) == 1:
            raise ValueError("no")

    hear(recorder := Recorder())
    run_worker(broker)
    buy.send()
    eventually(lambda: "turned default Done" in recorder.heard and "done" in recorder.heard)
    run = ["step pay begins", "provider_calls stripe  ok", "step pay ends", "ai_cost_usd openai gpt-4o org_7"]
    assert [line for line in recorder.heard if not line.startswith("turned")] == [
        *("sending buy to local.jobs.normal.default", "sent buy"),
        *("began attempt 1 of u1", *run, "failed: no", "ended Retry"),
        *("began attempt 2 of u1", *run, "done"),
    ]
    assert [line for line in recorder.heard if line.startswith("turned")][-2:] == [
        "turned default Retry",
        "turned default Done",
    ]


class Fails(Observer):
    """Raises in all that it hears, in each of the ways there are."""


def _raise(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("an observer's own")


for name in TOLD:
    setattr(Fails, name, _raise)


class FailsInside(Observer):
    """What it enters raises at its end."""

    @contextmanager
    def sending(self, queue: str, task: str, number: int = 1) -> Iterator[Mapping[str, str]]:
        yield {}
        raise RuntimeError("an observer's own")

    @contextmanager
    def span(
        self, name: str, attributes: Mapping[str, Any], *, outgoing: bool = False, judged: bool = False
    ) -> Iterator[Span]:
        yield Span()
        raise RuntimeError("an observer's own")


class Swallows(Observer):
    """Keeps to itself what is raised within."""

    @contextmanager
    def span(
        self, name: str, attributes: Mapping[str, Any], *, outgoing: bool = False, judged: bool = False
    ) -> Iterator[Span]:
        try:
            yield Span()
        except ValueError:
            pass


@pytest.mark.parametrize("failing", [Fails, FailsInside, Swallows])
def test_an_observer_that_fails_harms_nobody(
    broker: RedisBroker, run_worker: RunWorker, hear: Hear, failing: type[Observer]
) -> None:
    @task(max_retries=0, result_ttl_ms=60_000)
    def works(fails: bool = False) -> str:
        with step("one"):
            if fails:
                raise ValueError("its own")
            return "worked"

    hear(failing())
    hear(recorder := Recorder())
    run_worker(broker)
    assert works.send().result(5) == "worked"
    sent = works.send(fails=True)
    eventually(lambda: "ended Dead" in recorder.heard)
    eventually(lambda: sent.info().detail == "ValueError: its own")
    assert recorder.heard.count("turned default Result") == 1


def test_its_errors_are_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    class FailsOften(Observer):
        counted = done = _raise

        def closing(self) -> None:
            raise OSError("no room")

    tell = Telling()
    tell.add(FailsOften())
    for _ in range(50):
        tell.counted("turns", ("mail",))
        tell.closing()
    assert sorted(line.split(" failed")[0].split(".")[-1] for line in caplog.messages) == ["_raise", "closing"]


def test_nothing_is_called_where_nobody_hears(
    broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what each plain job would pay for; other things cost the call of a method that does nothing."""
    called: list[str] = []
    for each in ("began", "ended", "done", "turned"):
        monkeypatch.setattr(Observer, each, lambda *args, each=each: called.append(each))
    ran: list[int] = []
    task(lambda number: ran.append(number), name="plain")
    broker.actors["plain"].send_many([[number] for number in range(100)])  # type: ignore[attr-defined]
    run_worker(broker)
    eventually(lambda: len(ran) == 100)
    broker.join("default", timeout=5_000)
    assert called == []


def test_only_what_is_overridden_is_heard() -> None:
    tell = Telling()
    assert (tell.heard, vars(tell).keys() & set(TOLD)) == (frozenset(), set())
    lines, all_lines = Lines(), LinesOfAll()
    tell.add(lines)
    assert "ended" in tell.heard
    assert tell.heard.isdisjoint(("done", "sending"))
    tell.add(all_lines)
    assert "done" in tell.heard
    tell.remove(all_lines)
    tell.remove(lines)
    assert (tell.heard, vars(tell).keys() & set(TOLD)) == (frozenset(), set())


@pytest.mark.parametrize("along", [None, [1], {"x": object()}, {"x": 5}, {5: "x"}])
def test_what_is_no_text_does_not_go_along(along: Any) -> None:
    left = []

    class Odd(Observer):
        @contextmanager
        def sending(self, queue: str, task: str, number: int = 1) -> Iterator[Mapping[str, str]]:
            yield along
            left.append(queue)

    class Good(Observer):
        @contextmanager
        def sending(self, queue: str, task: str, number: int = 1) -> Iterator[Mapping[str, str]]:
            yield {"a": "good"}

    tell = Telling()
    tell.add(Odd())
    tell.add(Good())
    with tell.sending("q", "t") as given:
        assert given == {"a": "good"}
    assert left == ["q"]


def test_what_is_no_span_is_told_nothing() -> None:
    class Odd(Observer):
        @contextmanager
        def span(self, name: str, attributes: Mapping[str, Any], **how: bool) -> Iterator[Any]:
            yield {}

    tell = Telling()
    tell.add(Odd())
    with tell.span("s", {}) as span:
        span.say({"a": 1})


def test_several_are_asked_together() -> None:
    class Early(Observer):
        def resting(self, now: float) -> float | None:
            return now + 1

    class Late(Observer):
        def resting(self, now: float) -> float | None:
            return now + 2

        def trace_context(self) -> tuple[str, str]:
            return "00-1", "a=b"

        @contextmanager
        def sending(self, queue: str, task: str, number: int = 1) -> Iterator[Mapping[str, str]]:
            yield {"a": "late", "b": "late"}

    class Never(Observer):
        def resting(self, now: float) -> float | None:
            return None

        def trace_context(self) -> tuple[str, str]:
            return "", ""

        @contextmanager
        def sending(self, queue: str, task: str, number: int = 1) -> Iterator[Mapping[str, str]]:
            yield {"b": "never"}

    tell = Telling()
    assert (tell.resting(1.0), tell.trace_context()) == (None, ("", ""))
    tell.add(Never())
    assert (tell.resting(1.0), tell.trace_context()) == (None, ("", ""))
    tell.add(Late())
    tell.add(Early())
    assert (tell.resting(1.0), tell.trace_context()) == (2.0, ("00-1", "a=b"))
    with tell.sending("q", "t") as along:
        assert along == {"a": "late", "b": "late"}


def test_a_forked_child_counts_nothing_twice(tmp_path: Any, hear: Hear) -> None:
    tell = telling.tell
    hear(figures := Meter())
    hear(Writer(figures, str(tmp_path), "w"))
    tell.counted("turns", ("mail",))
    child = os.fork()
    if child == 0:
        tell.counted("turns", ("mail",))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    tell.resting(1e9)
    assert (tmp_path / "w.json").read_text() == '{"counts":{"turns":{"mail":1}},"times":{},"levels":{}}'


@pytest.mark.parametrize(
    ("outcome", "trace", "seconds", "plain"),
    [
        (PLAIN, None, 0.1, True),
        (Done(), None, 0.1, False),  # it has options, or a result that is not kept
        (PLAIN, "a span", 0.1, False),
        (PLAIN, None, 5.1, False),
        (Back(), None, 0.1, False),
    ],
)
def test_what_has_nothing_to_say(outcome: Outcome, trace: Any, seconds: float, plain: bool) -> None:
    run = SimpleNamespace(plan="plan", trace=trace, started=1.0, ended_at=1.0 + seconds)
    ends = Ends("mail", [(run, outcome)])
    assert (ends.plain, ends.special) == ((["plan"], []) if plain else ([], [(run, outcome)]))
