"""What operators are told of the outbox."""

from __future__ import annotations

import sqlite3
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, update

from fourlane.db.engine import Database, open_database
from fourlane.db.models import JobOutbox, OutboxQuota
from fourlane.outbox import browse
from fourlane.outbox.browse import Fill, Late, Summary
from fourlane.outbox.doctor import examine_outbox, findings_of
from fourlane.outbox.relay import Relay
from fourlane.queues.doctor import Level
from fourlane.queues.store import Store
from tests.command import Command
from tests.command import command as command
from tests.outbox.test_bad_rows import insert as insert_raw
from tests.outbox.test_bad_rows import without_checks
from tests.outbox.test_turns import ONE, TWO, write

AHEAD_MS = int(time.time() * 1000) + 3_600_000  # these tests may run long after they were collected
LONG_AGO = datetime.now(UTC) - timedelta(minutes=10)


@pytest.mark.parametrize(
    ("found", "late", "reasons", "fullest", "told"),
    [
        (Summary(0, None, 0), [], [], [], ["ok 0 row(s) wait"]),
        (Summary(5, AHEAD_MS, 0), [], [], [Fill(ONE, 79, 10, 100, 100)], ["ok 5 row(s) wait"]),
        (
            Summary(5, AHEAD_MS - 7_200_000, 0),
            [Late("images", 4)],
            [],
            [],
            ["warn 5 row(s) wait, the oldest for "],
        ),
        (
            Summary(0, None, 2, 1),
            [],
            [("no moment", 2)],
            [],
            ["warn 2 row(s) failed, 1 of them within 30 minutes: 2 × "],
        ),
        (Summary(1, AHEAD_MS, 0), [], [], [Fill(ONE, 80, 10, 100, 100)], ["warn organization 0000"]),  # rows
        (Summary(1, AHEAD_MS, 0), [], [], [Fill(ONE, 8, 80, 100, 100)], ["warn organization 0000"]),  # bytes
        (
            Summary(1, AHEAD_MS, 0),
            [],
            [],
            [Fill(ONE, 1, 1, 0, 0)],
            ["warn organization 0000"],
        ),  # may have nothing
    ],
)
def test_findings(
    found: Summary, late: list[Late], reasons: list[tuple[str, int]], fullest: list[Fill], told: list[str]
) -> None:
    findings = findings_of(found, late, reasons, fullest)
    assert len(findings) == len(told)
    for finding, begin in zip(findings, told, strict=True):
        assert f"{finding.level.value} {finding.text}".startswith(begin)
        assert (finding.level is Level.OK) == (not finding.fix)


def test_what_is_seen_of_rows(database: Database, store: Store) -> None:
    write(database, 3, ONE, created_at=LONG_AGO)
    write(database, 1, ONE, created_at=LONG_AGO, service="mails")
    write(database, 2, TWO)
    with database.begin() as session:
        session.execute(insert(OutboxQuota), [{"organization_id": ONE, "waiting_rows": 4}])
        session.execute(update(JobOutbox).where(JobOutbox.organization_id == TWO).values(service="no service!")) if (
            database.dialect == "sqlite"
        ) else None
    assert browse.late_services(database, 60) == [Late("images", 3), Late("mails", 1)]
    [full, *_] = browse.fullest(database)
    assert (full.organization_id, full.rows, full.bytes, full.share) == (ONE, 4, 4 * 6, 1.0)
    [age, *others] = examine_outbox(database)
    assert "of the services images (3), mails (1)" in age.text
    assert any(str(ONE) in other.text for other in others)
    Relay(database, store).drain()
    [finding] = examine_outbox(database)
    if database.dialect == "sqlite":
        assert "2 row(s) failed, 2 of them within 30 minutes: 2 × 'no service!' is no service" in finding.text
        assert browse.summary(database).last_error == browse.reasons(database)[0][0]
    else:
        assert finding.level is Level.OK


@pytest.mark.parametrize("created_at", ["'0044-03-15 BC'", "'-infinity'", "'20000-01-01'"])
def test_moments_that_no_calendar_has_do_not_blind_us(migrated_postgres_url: str, created_at: str) -> None:
    database = open_database(migrated_postgres_url)
    without_checks(database)
    insert_raw(database, created_at=created_at, organization_id=f"'{uuid.UUID(int=1)}'")
    assert browse.summary(database) == Summary(1, None, 0)
    assert browse.fullest(database)[0].rows == 1
    assert examine_outbox(database)
    database.close()


def test_a_database_that_is_not_migrated(postgres_url: str) -> None:
    database = open_database(postgres_url)
    [finding] = examine_outbox(database)
    assert finding.fix == "fourlane db migrate"
    database.close()


def test_the_commands_tell(command: Command, migrated_postgres_url: str) -> None:
    """``relay``, ``relay --once``, ``doctor`` and ``db status`` work with a row that is none."""
    database = open_database(migrated_postgres_url)
    without_checks(database)
    insert_raw(database, run_at="'0044-03-15 BC'")
    insert_raw(database)
    database.close()
    env = {"DATABASE_URL": migrated_postgres_url}
    ended = command("relay", "--once", **env)
    assert (ended.returncode, ended.stdout) == (0, "2 row(s): 1 relayed, 1 failed\n")
    assert "1 row(s) failed, 1 of them within 30 minutes: 1 × run_at: " in command("doctor", **env).stdout
    assert "0 pending; 1 failed, the last one: run_at: " in command("db", "status", **env).stdout
    assert "outbox     outbox: 0 wait" in command("status", **env).stdout


def test_the_commands_tell_of_the_file_in_the_data_folder(command: Command) -> None:
    """As ``fourlane dev`` makes it; where it is not, nothing is made and nothing told."""
    assert "outbox " not in command("doctor").stdout
    assert "outbox " not in command("status").stdout
    file = command.folder / ".fourlane" / "fourlane.db"
    assert not file.exists()
    command("db", "migrate")
    with sqlite3.connect(file) as connection:
        connection.execute(
            "INSERT INTO job_outbox (task, args, created_at) VALUES ('resize', '{', '2026-01-01 00:00:00')"
        )
    connection.close()
    assert "1 row(s) wait, the oldest for " in command("doctor").stdout
    assert "outbox     outbox: 1 wait" in command("status").stdout
    command("relay", "--once")
    assert "1 row(s) failed, 1 of them within 30 minutes" in command("doctor").stdout
