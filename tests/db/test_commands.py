"""``fourlane db`` and ``fourlane relay``: what they say, and what a mistake is told in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from fourlane import crypto
from fourlane.cli import main
from fourlane.db.engine import open_database
from tests.command import Command
from tests.servers import free_port

Run = Callable[..., Result]


@pytest.fixture
def run(redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs the CLI in an empty folder; ``code`` is the exit code that it must have."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("FOURLANE_NAMESPACE", namespace)

    def invoke(*args: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, args, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    yield invoke
    crypto.configure(None)


def test_a_life_of_a_schema(run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert "is not applied; run `fourlane db migrate`" in run("db", "check", code=1).stdout
    first = run("db", "migrate")
    assert first.stderr == ""
    assert "applied 261125001 platform_tables" in first.stdout
    assert "is up to date" in run("db", "migrate").stdout
    assert "outbox: 0 pending; 0 failed" in run("db", "status").stdout
    shown = json.loads(run("db", "status", "--json").stdout)
    assert {m["word"] for m in shown["migrations"]} == {"applied"}
    nothing = {"pending": 0, "oldest_ms": None, "failed": 0, "newly_failed": 0, "last_error": None, "held": 0}
    assert shown["outbox"] == nothing
    assert "the schema is right" in run("db", "check").stdout
    assert "--yes" in run("db", "rollback", code=2).stderr
    assert "rolled back" in run("db", "rollback", "--yes", "--steps", "99").stdout
    assert "nothing to roll back" in run("db", "rollback", "--yes").stdout


def test_a_migration_that_was_changed_after_it_was_applied(
    run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    run("db", "migrate")
    database = open_database(database_url)
    with database.begin() as session:
        session.execute(text("UPDATE schema_versions SET checksum = 'another' WHERE version = 261125001"))
    database.close()
    for words in (["migrate"], ["check"]):
        told = run("db", *words, code=1)
        assert "file was changed after it was applied; restore the file" in told.stdout + told.stderr
        assert "Traceback" not in told.stderr


def test_two_migrators_at_once(database_url: str, tmp_path: Path) -> None:
    command = Command(tmp_path, DATABASE_URL=database_url)
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [command.start("db", "migrate", **streams) for _ in range(2)]
    told = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    applied = [line for out, _ in told for line in out.splitlines() if line.startswith("applied ")]
    assert len(applied) == len(set(applied)) > 3, "each by one of them"
    assert "the schema is right" in command("db", "check").stdout
    command.close()


NOT_SET = "DATABASE_URL: is not set, and production needs it"


@pytest.mark.parametrize(
    ("env", "words", "line"),
    [
        ({"FOURLANE_ENVIRONMENT": "production"}, ["db", "migrate"], NOT_SET),
        ({"FOURLANE_ENVIRONMENT": "production"}, ["relay"], NOT_SET),
        ({"DATABASE_URL": "mysql://u:secret@h/d"}, ["db", "status"], "DATABASE_URL: names no database"),
        ({"DATABASE_URL": "postgresql://u:sec/ret@h:x/d"}, ["db", "status"], "DATABASE_URL: cannot be read"),
        ({"DATABASE_URL": "postgresql://u:secret@127.0.0.1:PORT/d"}, ["relay"], "is the server running"),
        ({"FOURLANE_ENCRYPTION_KEYS": "secret"}, ["db", "status"], "FOURLANE_ENCRYPTION_KEYS: key 1 is not 32 bytes"),
        ({}, ["relay"], "no such table: job_outbox (run `fourlane db migrate`)"),
        ({"FOURLANE_DATA_DIR": "/dev/null/x"}, ["db", "status"], "cannot be read or made"),
        ({"DATABASE_URL": "sqlite:////dev/null/x"}, ["db", "migrate"], "look at the file"),
        ({"REDIS_URL": "redis://127.0.0.1:PORT/0"}, ["relay"], "Redis"),
    ],
    ids=["db", "relay", "kind", "url", "down", "keys", "tables", "folder", "file", "redis"],
)
def test_a_mistake_is_told_in_a_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], words: list[str], line: str
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value.replace("PORT", str(free_port())))
    ended = run(*words, code=1)
    assert line in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "secret" not in ended.stderr


def test_importing_fourlane_needs_no_database() -> None:
    code = (
        "import sys, fourlane, fourlane.tasks.task, fourlane.app;"
        "assert not {'sqlalchemy', 'psycopg2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
