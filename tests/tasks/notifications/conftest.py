"""Stand-ins for the providers, settings that point at them, a database, and jobs without a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from examples.notifications.browser import vapid_key
from fourlane import app, crypto
from fourlane.config import load_settings
from fourlane.db.engine import Database
from fourlane.db.models import NotificationRecord
from fourlane.providers import http
from fourlane.tasks.notifications import bulk, deliver, ending
from fourlane.tasks.notifications.ledger import Ledger
from tests.command import Command
from tests.tasks.notifications.standins import ACCOUNT, KEY, TOKEN, Providers
from tests.worker.conftest import run_worker as run_worker

Run = Callable[..., Any]
STATUS_URL = "https://example.com/n/twilio"


@pytest.fixture
def providers() -> Iterator[Providers]:
    with Providers() as running:
        yield running


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, providers: Providers, migrated_url: str, tmp_path: Path
) -> dict[str, str]:
    """Settings of a process that sends by the stand-ins; of this one, and to hand on."""
    given = {
        "DATABASE_URL": migrated_url,
        "FOURLANE_ENCRYPTION_KEYS": crypto.new_key(),
        "RESEND_API_KEY": KEY,
        "FOURLANE_RESEND_URL": providers.url,
        "FOURLANE_RESEND_PER_SECOND": "1000",
        "FOURLANE_EMAIL_FROM": "Fourlane <hello@example.com>",
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_AUTH_TOKEN": TOKEN,
        "FOURLANE_TWILIO_URL": providers.url,
        "FOURLANE_TWILIO_STATUS_URL": STATUS_URL,
        "FOURLANE_SMS_FROM": "+15005550006",
        "FOURLANE_VAPID_PRIVATE_KEY": vapid_key(),
        "FOURLANE_VAPID_CONTACT": "mailto:ops@example.com",
        "FOURLANE_PUSH_ALLOW_PRIVATE": "true",
        "FOURLANE_SLACK_WEBHOOK_URL": f"{providers.url}/slack",
        "FOURLANE_PAGERDUTY_ROUTING_KEY": "R00",
        "FOURLANE_PAGERDUTY_URL": providers.url,
        "FOURLANE_UNSUBSCRIBE_URL": "https://example.com/n/unsubscribe",
        "FOURLANE_NOTIFICATION_TEMPLATES": str(tmp_path / "templates"),
        "FOURLANE_NOTIFICATION_TIMEOUT_SECONDS": "2",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "templates").mkdir()
    return given


@pytest.fixture
def command(redis_url: str, namespace: str, tmp_path: Path, environment: dict[str, str]) -> Iterator[Command]:
    """The command, with the settings of the test."""
    made = Command(tmp_path, REDIS_URL=redis_url, FOURLANE_NAMESPACE=namespace, **environment)
    yield made
    made.close()


@pytest.fixture
def database(environment: dict[str, str]) -> Iterator[Database]:
    opened = app.open_database(load_settings())
    yield opened
    opened.close()
    crypto.configure(None)


@pytest.fixture
def ledger(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """What the tasks use in this process; made anew from the settings of the test."""
    yield Ledger(database, {})
    http.close()


@pytest.fixture
def run(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a job here: ``run("email", job="j1", attempt=1, to=…)``."""

    def run_job(channel: Any, job: str = "job-1", attempt: int = 1, tenant: str = "", **fields: Any) -> Any:
        current = SimpleNamespace(id=job, attempt=attempt, tenant=tenant, queue="local.jobs.normal.notifications")
        for module in (bulk, deliver, ending):
            monkeypatch.setattr(module, "current_job", lambda: current)
        return (bulk.emails if channel == "emails" else deliver.TASKS[channel]).fn(**fields)

    return run_job


@pytest.fixture
def records(database: Database) -> Callable[[], list[NotificationRecord]]:
    """All that was recorded, oldest first."""

    def read() -> list[NotificationRecord]:
        with database.begin() as session:
            return list(session.scalars(select(NotificationRecord).order_by(NotificationRecord.created_at)))

    return read


@pytest.fixture
def template(environment: dict[str, str]) -> Callable[..., None]:
    """Writes a template: ``template("welcome", txt="Hi {{ name }}")``; ``_`` in a name is a dot."""
    folder = Path(environment["FOURLANE_NOTIFICATION_TEMPLATES"])

    def write(name: str, **files: str) -> None:
        for suffix, text in files.items():
            (folder / f"{name}.{suffix.replace('_', '.')}").write_text(text)

    return write
