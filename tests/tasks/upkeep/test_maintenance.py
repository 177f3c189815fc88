"""Housekeeping: what its tasks do, and how its schedules are moved and switched off."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fourlane import crypto
from fourlane.app import App
from fourlane.config import load_settings
from fourlane.config.groups.upkeep import HOUSEKEEPING
from fourlane.db.models import WebhookDelivery, WebhookEndpoint
from fourlane.db.setup import open_database
from fourlane.errors import InvalidSchedule
from fourlane.queues import control, dead_letters, schedules
from fourlane.queues.broker import Opened, RedisBroker
from fourlane.queues.guards import Bound, Budgets, PaidCall
from fourlane.queues.store import Store
from fourlane.root import root
from fourlane.scheduler import manage
from fourlane.scheduler.declare import synchronise
from fourlane.tasks import ai
from fourlane.tasks.upkeep import maintenance
from tests.queues.conftest import Hand
from tests.queues.conftest import hand as hand
from tests.queues.conftest import store as store

BY_DEFAULT = {name: time for name, time in maintenance.TIMES.items() if time != "off"}


@pytest.fixture(autouse=True)
def opened(store: Store) -> Iterator[None]:
    """The platform's tasks on this test's store."""
    broker: RedisBroker = maintenance.examine.broker
    before = broker._opened
    broker._opened = Opened(store)
    yield
    broker._opened = before


def stored(store: Store) -> dict[str, str]:
    return {f.schedule.name: f.schedule.cron for f in manage.every_schedule(store)}


def test_schedules_are_moved_and_switched_off(store: Store) -> None:
    maintenance.synchronise(store, {}, 1)
    assert stored(store) == BY_DEFAULT
    off = dict.fromkeys(BY_DEFAULT.keys() - {"dead-letters", "limits"}, "off")
    maintenance.synchronise(store, off | {"limits": "5 * * * *"}, 2)
    assert stored(store) == {"dead-letters": "17 2 * * *", "limits": "5 * * * *"}
    maintenance.synchronise(store, dict.fromkeys(maintenance.TIMES, "off"), 3)
    assert stored(store) == {}
    with pytest.raises(InvalidSchedule, match=r"FOURLANE_MAINTENANCE: doctor: .*minute 61"):
        maintenance.synchronise(store, {"doctor": "61 * * * *"}, 4)


def test_settings_know_all_of_them() -> None:
    assert set(maintenance.TIMES) == set(HOUSEKEEPING)


def test_a_worker_without_a_scheduler_leaves_them(store: Store) -> None:
    maintenance.synchronise(store, {}, 1)
    synchronise(maintenance.examine.broker, 2)
    assert stored(store) == BY_DEFAULT


def test_the_books_of_ai_calls_are_kept_where_there_are_any(
    store: Store, hand: Hand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert maintenance.housekeeping(load_settings()) == {}
    for options in ('{"budgets_usd": {"*": 5}}', '{"budgets": [{"usd": 5}]}', '{"log_rows": true}'):
        monkeypatch.setenv("FOURLANE_AI", options)
        assert maintenance.housekeeping(load_settings()) == {"ai-books": "* * * * *"}
    budgets, [gone] = Budgets(store), hand.enqueue()
    call = PaidCall("c", "acme", "2026-11-28", "t", "p/m", service="mail", job=gone)
    budgets.reserve(call, 60, [Bound(0, "", 100, 80)])
    ai.configure(ai.AiConfig())
    try:
        with caplog.at_level(logging.INFO):
            maintenance.keep_ai_books()
            assert budgets.look("acme", "2026-11").held == {"": 60}
            control.cancel(store, gone, "mail")
            maintenance.keep_ai_books()
    finally:
        ai.configure(None)
    assert budgets.look("acme", "2026-11").held == {"": 0}
    assert "gave back reservations of AI budgets number=1" in caplog.text


def test_old_dead_letters_go(store: Store, hand: Hand) -> None:
    hand.kill(50)
    store.dead_max = 7
    maintenance.drop_old_dead_letters()
    assert dead_letters.count(store) == 7


def test_limits_are_counted_again(store: Store, hand: Hand) -> None:
    control.set_limit(store, "jobs.normal.mail", concurrency=2)
    keys = store.service("mail")
    store.connector.command(keys.jobs, "SADD", keys.slots[1], "1a", "1b")  # of jobs that are long gone
    hand.enqueue(1)
    assert hand.turn(1).jobs == []
    maintenance.count_limits_again()
    assert len(hand.turn(1).jobs) == 1


def test_the_log_has_what_the_doctor_finds(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.connector.command(store.keys.services, "SET", f"{store.namespace}:stranger", "x")
    with caplog.at_level(logging.WARNING, "fourlane.maintenance"):
        maintenance.examine()
    assert f"{store.namespace}:stranger" in caplog.text


@pytest.mark.parametrize(("days", "left"), [("30", ["new"]), ("300", ["new", "old"]), ("0", ["new", "old"])])
def test_old_files_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, days: str, left: list[str]
) -> None:
    monkeypatch.setenv("FOURLANE_STORAGE", f"disk:{tmp_path}")
    monkeypatch.setenv("FOURLANE_STORAGE_DAYS", days)
    for name in ("old", "new"):
        App().storage.put(f"ai/-/j/{name}", b"x", "text/plain")
    before = time.time() - 31 * 86_400
    os.utime(tmp_path / "ai/-/j/old", (before, before))
    with caplog.at_level(logging.INFO, "fourlane.maintenance"):
        maintenance.prune_files()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == left
    assert ("pruned stored files number=1" in caplog.text) == (left == ["new"])


def test_deliveries_that_lost_their_jobs_fail(
    migrated_sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DATABASE_URL", migrated_sqlite_url)
    monkeypatch.setenv("FOURLANE_ENCRYPTION_KEYS", crypto.new_key())
    made = {"event_id": "evt_1", "event_type": "a", "payload": {}, "updated_at": datetime(2026, 1, 1, tzinfo=UTC)}
    with closing(open_database(load_settings())) as database, database.begin() as session:
        endpoint = WebhookEndpoint(id=uuid.uuid4(), url="https://example.org", secret="s")
        session.add(endpoint)
        session.flush()
        session.add(WebhookDelivery(**made, endpoint_id=endpoint.id, job_id=str(uuid.uuid4())))
    with caplog.at_level(logging.WARNING, "fourlane.maintenance"):
        maintenance.fail_lost_deliveries()
    assert "webhooks number=1: their jobs were cancelled, purged or lost" in caplog.text
    root().close()
    crypto.configure(None)


def test_housekeeping_makes_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_DATA_DIR", str(tmp_path))
    maintenance.fail_lost_deliveries()
    maintenance.tidy_notifications()
    assert list(tmp_path.iterdir()) == []


def test_where_no_file_was_ever_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_DATA_DIR", str(tmp_path / "data"))
    maintenance.prune_files()
    assert not (tmp_path / "data").exists()


def test_they_run_as_jobs(store: Store) -> None:
    maintenance.synchronise(store, {}, 1)
    job_id = manage.fire(store, "doctor")
    assert job_id.startswith("3")
    assert schedules.names(store, "maintenance") == sorted(BY_DEFAULT)
