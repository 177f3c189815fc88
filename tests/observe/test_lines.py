"""The log lines of a worker."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from fourlane.errors import Reject
from fourlane.observe.lines import Lines, LinesOfAll, Parked
from fourlane.outcome import PLAIN, Back, Cancel, Dead, Outcome, Postpone, Result, Retry
from fourlane.tasks.webhooks import DeliveryFailed


def run(*, expected: bool = False) -> Any:
    return SimpleNamespace(id="1abc", attempt=2, started=0.0, expected=expected, plan=SimpleNamespace(name="send"))


@pytest.mark.parametrize(
    ("outcome", "expected", "level", "line"),
    [
        (Retry(50, b"", "OSError: no"), False, "WARNING", "retry {} again_in_ms=50 error=OSError: no"),
        (Retry(50, b"", "Retry: later"), True, "INFO", "retry {} again_in_ms=50 error=Retry: later"),
        (Dead("error", "OSError: no", b""), False, "ERROR", "dead {} reason=error error=OSError: no"),
        (Dead("rejected", "no", b""), True, "INFO", "dead {} reason=rejected error=no"),
        (Postpone(500), False, "INFO", "postponed {} again_in_ms=500"),
        (Cancel(), False, "INFO", "cancelled {}"),
        (Back(), False, "INFO", "given-back {}"),
        (Postpone(500, b"", "new"), False, "WARNING", "unknown-task task=new jobs=1 job=1abc again_in_ms=500"),
    ],
)
def test_a_line_for_each_end(
    outcome: Outcome, expected: bool, level: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        Lines().ended(run(expected=expected), outcome, None)
    [record] = caplog.records
    assert (record.name, record.levelname) == ("fourlane.worker", level)
    assert record.getMessage() == line.format("job=1abc task=send attempt=2 ms=0.0")


@pytest.mark.parametrize(
    ("error", "has_traceback"),
    [(Reject("HTTP 404"), False), (DeliveryFailed("HTTP 503"), False), (OSError("no"), True)],
)
def test_who_is_refused_by_others_fills_no_log(
    error: Exception, has_traceback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        raise error
    except Exception as raised:
        Lines().ended(run(), Dead("error", str(error), b""), raised)
    [record] = caplog.records
    assert (record.levelname, bool(record.exc_info)) == ("ERROR", has_traceback)


def test_done_jobs_have_a_line_where_it_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for lines in (Lines(), LinesOfAll()):
            lines.done(run())
            lines.ended(run(), Result(b"1", 1_000), None)
            lines.ended(run(), PLAIN, None)
    assert caplog.messages == ["done job=1abc task=send attempt=2 ms=0.0"] * 3


@pytest.mark.parametrize(
    ("what", "told", "line"),
    [
        ("serving", ("mail",), "serving service=mail too: it was declared since the start"),
        ("promoted", ("mail", 3), "promoted service=mail jobs=3: others did not know their tasks"),
        ("stale", ("mail", [run()]), "stale job=1abc task=send: its lease was lost, it runs again"),
        ("refused", ("mail", 2), "stale 2 settlement(s) of mail refused: the leases were lost"),
        ("leases_lost", ("mail", "w", 4), "lost service=mail worker=w: 4 running job(s) will not count"),
        ("reclaimed", ("mail", "w", 5, 1), "reclaimed service=mail worker=w jobs=5 poison=1"),
        ("dropped", ("mail", 6), "dropped 6 old dead letter(s) of mail: over their number or age"),
        ("abandoned", (run(),), "given-back job=1abc task=send: it did not end within the grace"),
        ("skipped", (run(), "no"), "skipped job=1abc task=send: no"),
    ],
)
def test_a_line_for_what_the_loop_meets(
    what: str, told: tuple[Any, ...], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        getattr(Lines(), what)(*told)
    assert caplog.messages == [line]


def test_one_line_a_minute_for_each_task(caplog: pytest.LogCaptureFixture) -> None:
    parked = Parked(seconds=60.0)
    with caplog.at_level(logging.WARNING):
        for number in range(50):
            parked.tell(f"j{number}", "new", 500)
            parked.tell(f"k{number}", "newer", 500)
    assert [line.split(" again")[0] for line in caplog.messages] == [
        "unknown-task task=new jobs=1 job=j0",
        "unknown-task task=newer jobs=1 job=k0",
    ]
    parked = Parked(seconds=0.0)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        parked.tell("j", "new", 500)
    assert len(caplog.messages) == 1
