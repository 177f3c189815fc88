"""A table of rows that is locked holds up no job, and its rows are written once when it is free."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import text

from fourlane.db.engine import open_database
from fourlane.db.models import Base
from fourlane.providers.ai import Answer
from fourlane.queues.broker import RedisBroker
from fourlane.queues.guards import Budgets
from fourlane.tasks.ai.money import row_writer
from fourlane.tasks.ai.money.rows import write_later
from tests.servers import eventually
from tests.tasks.ai.test_books import TOOK, config, paid, rows


def test_a_locked_table_holds_up_no_job(
    broker: RedisBroker, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_writer, "_WAIT_SECONDS", 0.2)
    monkeypatch.setattr(row_writer, "_HELD_SECONDS", 0.3)
    database = open_database(postgres_url, pool_size=20)
    Base.metadata.create_all(database.engine)
    given, books = config(database), Budgets(broker.store)

    async def many() -> None:
        await asyncio.gather(*(paid(given, Answer(text="ok", finish="stop", usage=TOOK)) for _ in range(30)))

    with database.session() as holding:
        holding.execute(text("LOCK TABLE ai_operation_logs"))
        began = time.monotonic()
        asyncio.run(many())
        assert time.monotonic() - began < 5
        assert len(books.unwritten()) == 30
    time.sleep(0.3)  # it is tried again then
    asyncio.run(many())
    write_later(database, books)
    eventually(lambda: len(rows(database)) == 60, 10)
    eventually(lambda: not books.unwritten())
    database.close()
