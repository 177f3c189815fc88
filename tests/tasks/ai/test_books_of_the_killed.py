"""Worker processes killed amid paid calls: no budget is overspent, and nothing is held for jobs that are no more."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from examples.ai.provider import Fault, Provider
from fourlane.db import ai_rows
from fourlane.db.engine import Database, open_database, sqlite_url
from fourlane.db.models import Base
from fourlane.queues import dead_letters
from fourlane.queues.guards import ALL, Budgets
from fourlane.tasks.ai.money.spent import day_now, month_now
from tests.workers import Workers, eventually
from tests.workers import workers as workers

TASKS = """
import fourlane
from fourlane.tasks import ai

@fourlane.task(max_retries=2, backoff=fourlane.Backoff(10, 10))
async def report(tenant):
    await ai.call("generate", "hello", model="gpt-4o", tenant=tenant, max_tokens=100)
"""
MOST = 1_042_500  # what a call may cost, in billionths of a dollar


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        yield server


@pytest.fixture
def paying(workers: Workers, provider: Provider) -> Workers:
    (workers.folder / "paying_tasks.py").write_text(TASKS)
    url = sqlite_url(workers.folder / "books.db")
    opened = open_database(url)
    Base.metadata.create_all(opened.engine)
    opened.close()
    options = {
        "base_urls": provider.base_urls,
        "budgets_usd": {"*": 0.0025},
        "budgets": [{"per": "day", "usd": 0.0042}],
        "log_rows": True,
        "limits": {"openai": {"timeout_seconds": 600}},  # those that hang are not asked again meanwhile
    }
    workers.env |= {"FOURLANE_AI": json.dumps(options), "OPENAI_API_KEY": "sk-test", "DATABASE_URL": url}
    return workers


@pytest.fixture
def database(paying: Workers) -> Iterator[Database]:
    opened = open_database(paying.env["DATABASE_URL"])
    yield opened
    opened.close()


def test_killed_amid_calls_nothing_is_overspent_or_held(
    paying: Workers, provider: Provider, database: Database
) -> None:
    """Four calls fit at once, two of each tenant: they hang, and their workers are killed."""
    provider.faults += [Fault("hang")] * 4
    books, month = Budgets(paying.broker.store), month_now()
    first = paying.start("--processes", "2", module="paying_tasks")
    for number in range(8):
        paying.send("report", f"tenant{number % 2}")
    eventually(lambda: dead_letters.count(paying.broker.store) == 4, 30)
    eventually(lambda: len(provider.requests) == 4)
    assert books.look(ALL, month).used("") == 0  # of a month there is none for all
    assert books.look(ALL, day_now()).used("") == 4 * MOST
    assert {books.look(f"tenant{n}", month).used("") for n in (0, 1)} == {2 * MOST}
    os.killpg(first.pid, signal.SIGKILL)
    paying.start("--processes", "2", module="paying_tasks")
    eventually(lambda: len(provider.requests) == 8, 40)
    eventually(lambda: books.look(ALL, month).calls == 4, 20)
    assert list(books.reservations()) == []
    spent = books.look(ALL, month).spent
    eventually(lambda: sum(ai_rows.spent(database, month).values()) == spent > 0)
    check = paying.start("--check", module="spending", command="ai", until="tenant1")
    eventually(lambda: check.poll() is not None, 20)
    assert (check.returncode, paying.log(check).count(" ok")) == (0, 2)
