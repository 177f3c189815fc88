"""The SQL in the docs runs."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from sqlalchemy import inspect, text

from fourlane.db import migrate
from fourlane.db.engine import Database, open_database
from fourlane.db.migrate import parse

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"^```sql\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


def test_the_migration_of_the_page(empty: Database) -> None:
    [source] = [block for block in blocks("database.md") if "-- up" in block]
    made = parse("20261231_001_things.sql", source, empty.dialect)
    migrate.migrate(empty, [made])
    assert inspect(empty.engine).has_table("things")
    migrate.rollback(empty, 1, [made])
    assert not inspect(empty.engine).has_table("things")


def test_the_statements_of_the_pages(postgres_url: str) -> None:
    database = open_database(postgres_url)
    migrate.migrate(database)
    statements = [block for page in ("outbox.md", "database.md") for block in blocks(page) if "-- up" not in block]
    assert len(statements) == 8
    with database.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement.replace("…", str(uuid.uuid4())).replace("::", r"\:\:")))
        connection.execute(text("DROP ROLE worker"))
    database.close()
