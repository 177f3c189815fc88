"""When a process counts as hung, as a table."""

from __future__ import annotations

import pytest

from fourlane.worker.process.hung import Look, quiet_seconds

QUIET = Look(seconds=1.0, turned=False, ran=True, excused=False, busy=False, stopped=False, reached=True)


@pytest.mark.parametrize(
    ("look", "after"),
    [
        (QUIET, 11.0),
        (QUIET._replace(busy=True), 11.0),  # its jobs run on, and nobody settles them
        (QUIET._replace(turned=True), 0.0),
        (QUIET._replace(reached=False), 0.0),  # Redis is away
        (QUIET._replace(excused=True), 0.0),  # Redis refuses what it asks
        (QUIET._replace(ran=False, busy=True), 10.0),  # a job holds the interpreter: the hard limit's business
        (QUIET._replace(ran=False), 11.0),  # something else holds it
        (QUIET._replace(ran=False, stopped=True), 10.0),  # SIGSTOP
        (QUIET._replace(seconds=600.0), 12.0),  # the supervisor was stopped too
    ],
)
def test_quiet_seconds(look: Look, after: float) -> None:
    assert quiet_seconds(10.0, look) == after
