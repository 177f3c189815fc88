"""A row that is no job is marked with the reason, whatever is wrong in whichever column, and stops no other."""

from __future__ import annotations

import json
import math
import random
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select, text

from fourlane import outbox
from fourlane.db.engine import Database, open_database
from fourlane.db.models import JobOutbox
from fourlane.errors import FourlaneError
from fourlane.outbox.relay import Relay, within
from fourlane.outbox.turns import Place
from fourlane.outbox.written import job_of, moment_ms, reason
from fourlane.queues import browse
from fourlane.queues.store import Store
from fourlane.tasks.task import Task

AnyTask = Task[Any, Any]

ANYWHERE: list[tuple[str, str, str]] = [
    ("task", "''", "has no name"),
    ("service", "'no service!'", "service"),
    ("service", "''", "service"),
    ("tier", "7", "is no tier"),
    ("tier", "-1", "is no tier"),
    ("args", "'{\"a\": 1}'", "Expected `array`"),
    ("args", "'no json'", "args cannot be read"),
    ("args", "'[1, ]'", "args cannot be read"),
    ("args", "'[1e999]'", "args cannot be read"),
    ("args", '\'[],{},{"tenant":"victim"},1\'', "args cannot be read"),
    ("args", "'[\"\\ud800\"]'", "args cannot be read"),
    ("args", "'" + "[" * 100_000 + "]" * 100_000 + "'", "args cannot be read"),
    ("args", "'[\"" + "x" * 1_048_576 + "\"]'", "the limit is 1,048,576"),
    ("kwargs", "'[]'", "Expected `object`"),
    ("kwargs", '\'{},{"tenant":"victim"},1,2\'', "kwargs cannot be read"),
    ("options", "'[]'", "Expected `object`"),
    ("options", "'{\"tenant\": 5}'", "5 is no tenant"),
    ("options", '\'{"tenant": "a\\u0000b"}\'', "is no tenant"),
    ("options", "'{\"max_retries\": -1}'", "max_retries=-1: it must be"),
    ("run_at", "'9999-12-31 23:59:59+00'", "is no moment"),
    ("run_at", "'2126-01-01 00:00:00+00'", "further ahead than FOURLANE_OUTBOX_DAYS_AHEAD"),
    ("created_at", "'1969-12-31 00:00:00+00'", "is no moment"),
]
ON_POSTGRESQL = [
    (column, value, "is no moment of the years 1970 to 9999")
    for column in ("run_at", "created_at")
    for value in ("'20000-01-01'", "'200000-01-01'", "'0044-03-15 BC'", "'infinity'", "'-infinity'", "'0001-01-01'")
]
ON_SQLITE = [
    ("id", "'zzz'", "is no UUID"),
    ("id", "X'00'", "id: '\\x00' is no UUID"),
    ("organization_id", "'acme'", "is no UUID"),
    ("tier", "1.5", "1.5 is no tier"),
    ("task", "X'ff'", "task: b'\\xff' is no text"),
    ("task", "CAST(X'ff' AS TEXT)", "Could not decode to UTF-8"),
    ("args", "X'5b5d'", "args: b'[]' is no text"),
    ("args", "CAST(X'ff' AS TEXT)", "Could not decode to UTF-8"),
    ("options", "CAST(X'ff' AS TEXT)", "Could not decode to UTF-8"),
    ("run_at", "CAST(X'ff' AS TEXT)", "Could not decode to UTF-8"),
    ("run_at", "'soon'", "'soon' is no moment"),
    ("run_at", "5", "'5' is no moment"),
    ("run_at", "'0001-01-01 00:00:00+14:00'", "is no moment"),
    ("created_at", "X'00'", "is no moment"),
]


def without_checks(database: Database) -> None:
    """As rows from before there were any; SQLite has hardly one."""
    with database.engine.begin() as connection:
        if database.dialect == "postgresql":
            for (name,) in connection.execute(
                text("SELECT conname FROM pg_constraint WHERE conrelid = 'job_outbox'::regclass AND contype = 'c'")
            ).all():
                connection.exec_driver_sql(f"ALTER TABLE job_outbox DROP CONSTRAINT {name}")


def insert(database: Database, **columns: str) -> None:
    """A row of these SQL values."""
    values = {"id": _SOME_ID[database.dialect], "task": "'resize'", "service": "'images'", "tier": "0"} | columns
    statement = f"INSERT INTO job_outbox ({', '.join(values)}) VALUES ({', '.join(values.values())})"
    with database.engine.begin() as connection:
        connection.execution_options(no_parameters=True).exec_driver_sql(statement)


_SOME_ID = {"postgresql": "gen_random_uuid()", "sqlite": "lower(hex(randomblob(16)))"}


def ends(database: Database) -> list[tuple[bool, str]]:
    """By position: whether it was relayed, and why not."""
    columns = (JobOutbox.relayed_at, JobOutbox.failed_at, JobOutbox.error)
    with database.begin() as session:
        found = session.execute(select(*columns).order_by(JobOutbox.position)).all()
    assert all(bool(row.relayed_at) != bool(row.failed_at) for row in found)
    return [(row.relayed_at is not None, row.error or "") for row in found]


def test_each_bad_row_fails_alone(database: Database, store: Store, resize: AnyTask) -> None:
    without_checks(database)
    if database.dialect == "sqlite":
        cases = [case for case in ANYWHERE if case[1] not in ("7", "-1")] + ON_SQLITE  # it has a CHECK of the tier
    else:
        cases = ANYWHERE + ON_POSTGRESQL
    for column, value, _ in cases:
        insert(database, **{column: value})
        insert(database)
    relay = Relay(database, store)
    relay.drain()
    found = ends(database)
    assert [(done, error) for done, error in found[1::2]] == [(True, "")] * len(cases)
    for (column, value, fault), (done, error) in zip(cases, found[::2], strict=True):
        assert not done, (column, value[:60])
        assert fault in error, (column, value[:60], error)
    assert (relay.relayed, relay.failed) == (len(cases), len(cases))
    assert browse.services(store)[0].queues[0].ready == len(cases)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/New_York", "Asia/Kathmandu"])
def test_moments_in_any_time_zone_and_writing(migrated_postgres_url: str, store: Store, zone: str) -> None:
    admin = open_database(migrated_postgres_url)
    without_checks(admin)
    name = admin.engine.url.database
    for setting in (f"timezone = '{zone}'", "datestyle = 'SQL, DMY'"):
        with admin.engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} SET {setting}")
    admin.close()
    database = open_database(migrated_postgres_url)
    bad = ["'0044-03-15 BC'", "'200000-01-01'", "'9999-12-31 23:59:59+00'", "'0001-01-01 00:00:00+00'", "'infinity'"]
    for value in bad:
        insert(database, run_at=value)
    insert(database, run_at="now() + interval '1 hour'")
    insert(database)
    relay = Relay(database, store)
    relay.drain()
    assert [done for done, _ in ends(database)] == [False] * len(bad) + [True, True]
    [service] = browse.services(store)
    assert (service.delayed, service.queues[0].ready) == (1, 1)
    database.close()


def test_a_row_that_raises_in_an_unknown_way_is_found(
    database: Database, relay: Relay, resize: AnyTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.begin() as session:
        for n in range(40):
            outbox.enqueue(session, resize, n)
    read = Relay._read

    def raising(self: Relay, connection: Any, positions: list[int]) -> Any:
        if {7, 23} & set(positions):
            raise ZeroDivisionError("odd\0row")
        return read(self, connection, positions)

    monkeypatch.setattr(Relay, "_read", raising)
    assert relay.drain() == 40
    wrong = [(number, error) for number, (done, error) in enumerate(ends(database), 1) if not done]
    assert wrong == [(7, "odd\\x00row"), (23, "odd\\x00row")]


def test_a_row_that_cannot_even_be_marked_is_left(
    migrated_postgres_url: str, store: Store, resize: AnyTask, caplog: pytest.LogCaptureFixture
) -> None:
    database = open_database(migrated_postgres_url)
    with database.begin() as session:
        for n in range(20):
            outbox.enqueue(session, resize, n)
        session.flush()
        session.execute(text("ALTER TABLE job_outbox ADD CHECK (position <> 5 OR relayed_at IS NULL)"))
        session.execute(text("ALTER TABLE job_outbox ADD CHECK (position <> 5 OR failed_at IS NULL)"))
    relay = Relay(database, store)
    relay.drain()
    with database.begin() as session:
        left = list(session.scalars(select(JobOutbox.position).where(JobOutbox.relayed_at.is_(None))))
    assert left == [5]
    assert "left position=5" in caplog.text
    database.close()


def test_a_schema_that_is_not_ours_marks_nothing(database: Database, relay: Relay, resize: AnyTask) -> None:
    """All rows would raise: that is no fault of theirs."""
    with database.begin() as session:
        outbox.enqueue(session, resize, 1)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE job_outbox RENAME COLUMN options TO other")
    with pytest.raises(Exception, match="options"):
        relay.step()
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE job_outbox RENAME COLUMN other TO options")
    assert relay.drain() == 1
    assert ends(database) == [(True, "")]


@pytest.mark.parametrize(
    ("sizes", "positions", "failed"),
    [
        ([], [], []),
        ([1, 2, 3], [1, 2, 3], []),
        ([6, 4, 1], [1, 2], []),  # ten at once
        ([6, 5, 1], [1], []),  # and none is overtaken
        ([8, 8, 8], [1], []),
        ([9, 1, 9], [2], [1, 3]),  # never read
    ],
)
def test_what_is_read_at_once(sizes: list[int], positions: list[int], failed: list[int]) -> None:
    places = [Place(number, size) for number, size in enumerate(sizes, 1)]
    found, faults = within(places, 8, 10)
    assert (found, [position for position, _ in faults]) == (positions, failed)


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (0.0, 0),
        (1_764_000_000_123.0, 1_764_000_000_123),
        ("2026-11-28 10:00:00.500000", 1_795_860_000_500),  # SQLite's
        ("2026-11-28T10:00:00+05:45", 1_795_839_300_000),
        ("9999-12-30", 253_402_128_000_000),
        (-1.0, None),
        (253_402_214_400_000.0, None),
        (math.inf, None),
        (-math.inf, None),
        (math.nan, None),
        ("infinity", None),
        ("0001-01-01 00:00:00+14:00", None),
        ("", None),
        (b"x", None),
        (None, None),
        (5, None),
    ],
)
def test_moments(value: Any, ms: int | None) -> None:
    if ms is not None:
        assert moment_ms(value, "run_at") == ms
        return
    with pytest.raises(ValueError, match=r"run_at: .* is no moment"):
        moment_ms(value, "run_at")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("plain"), "plain"),
        (ValueError(), "ValueError"),
        (ValueError("a\0b\nc\x1b[31m"), "a\\x00b\\x0ac\\x1b[31m"),
        (ValueError("\ud800"), "\\xd800"),
        (ValueError("x" * 5_000), "x" * 1_000),
    ],
)
def test_what_a_row_keeps_of_an_error(error: Exception, told: str) -> None:
    assert reason(error) == told


GOOD = {
    "task": "resize",
    "service": "images",
    "tier": 1,
    "args": "[]",
    "kwargs": "{}",
    "options": "{}",
    "run_at": None,
    "created_at": 1.8e12,
    "id": "00000000-0000-0000-0000-000000000001",
    "organization_id": None,
}
JSON_BITS = ['[', ']', '{', '}', '"', ",", ":", "1", "-", ".", "e", "null", "\\u0000", "\\ud800", '"tenant"',
             '"sealed"', '"delay"', '"pipe_target"', '"on_success"', " ", "\n", "\0", "ü",
             "1e999", "9" * 40, '{"a":']  # fmt: skip
ODD = [None, 5, -1, 1.5, math.nan, math.inf, b"\xff", "", True, 10**30]


def test_a_row_of_anything_is_a_job_of_five_parts_or_a_reason() -> None:
    chance = random.Random(19)
    jobs = 0
    for _ in range(3_000):
        row: dict[str, Any] = dict(GOOD)
        for column in chance.sample(sorted(GOOD), chance.randint(1, 3)):
            some = "".join(chance.choices(JSON_BITS, k=chance.randint(0, 12)))
            row[column] = chance.choice([*ODD, some, f"[{some}]", f"{{{some}}}", f"[{some}]"])
        try:
            body = job_of(SimpleNamespace(**row), frozenset(), last_ms=2 * 10**12).body
        except (FourlaneError, ValueError) as error:
            reason(error).encode()
            continue
        jobs += 1
        task, args, kwargs, options, _ = json.loads(body)
        assert (task, args, kwargs) == (row["task"], json.loads(row["args"]), json.loads(row["kwargs"]))
        assert options.items() <= {"tenant": row["organization_id"], **json.loads(row["options"])}.items()
    assert jobs > 50
