"""The table that a worker process shares with its supervisor."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from fourlane.worker.table import Leave, Running, Table, Vitals


@pytest.fixture
def table() -> Iterator[Table]:
    made = Table.create(2)
    yield made
    made.close()


def test_what_the_process_writes_the_supervisor_reads(table: Table) -> None:
    assert (table.names(), table.running(), table.turned_at, table.held) == ({}, [], 0.0, 0)
    names = {f"service-{number}": f"a-host-of-some-length-123-{number:08x}.0" for number in range(1_000)}
    table.begin(1, 7, b"1abc|r", 12.5)
    table.publish_names(names)
    table.publish(3.5, 2, 9)
    assert table.names() == names
    assert table.running() == [Running(7, "1abc|r", 12.5)]
    assert (table.turned_at, table.held, table.finished) == (3.5, 2, 9)
    table.end(1)
    assert table.running() == []


def test_names_half_written_are_no_error(table: Table) -> None:
    table.publish_names({"service": "name.10"})
    struct.pack_into("<I", table.map, 40, 9)
    assert table.names() == {}


def test_more_names_than_fit_are_refused(table: Table) -> None:
    with pytest.raises(ValueError, match="too many for one process; use --services"):
        table.publish_names({f"service-{number}": "x" * 100 for number in range(3_000)})


def test_a_long_entry_stays_in_its_row(table: Table) -> None:
    table.begin(0, 1, b"e" * 900, 0.0)
    table.begin(1, 2, b"other", 0.0)
    assert [running.service for running in table.running()] == [1, 2]
    assert table.running()[1].entry == "other"


def test_vitals(table: Table) -> None:
    assert table.vitals() == Vitals()  # none were written yet
    vitals = Vitals(7, True, "😀" * 150, 2, 12.5, "é" * 150, "名" * 80)  # the longest that are written
    table.publish_vitals(vitals)
    table.publish_names({"mail": "w.0"})
    assert table.vitals() == vitals
    assert table.names() == {"mail": "w.0"}


@pytest.mark.parametrize("leave", [Leave(), Leave(False, True), Leave(True, False, 5), Leave(False, True, 63)])
def test_what_the_supervisor_allows(table: Table, leave: Leave) -> None:
    table.grant(leave)
    assert table.leave() == leave
