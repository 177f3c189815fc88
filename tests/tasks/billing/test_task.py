"""The job, on a real worker: retried where that may help, dead at once where not, told to a channel."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from examples.billing.standins import Reply, Stripe
from fourlane import Reject, State
from fourlane.providers.health import Target
from fourlane.queues.broker import RedisBroker
from fourlane.queues.guards import ProviderStates
from fourlane.tasks.billing import reconciliation as billing
from fourlane.tasks.task import EnqueuedJob
from tests.command import Command, command  # noqa: F401
from tests.http_server import Reply as Answer
from tests.http_server import Request, serving
from tests.servers import eventually
from tests.tasks.billing.conftest import Ours, at
from tests.worker.conftest import RunWorker


@pytest.fixture
def worker(command: Command, tmp_path: Path, lite: Ours, stripe: Stripe) -> Command:  # noqa: F811
    command.env |= {
        "DATABASE_URL": f"sqlite:///{tmp_path}/test.db",
        "STRIPE_SECRET_KEY": stripe.key,
        "FOURLANE_STRIPE_URL": stripe.url,
        "FOURLANE_WEBHOOK_ALLOW_PRIVATE": "true",
    }
    return command


def test_a_job_goes_on_where_the_last_attempt_stopped(worker: Command, stripe: Stripe, lite: Ours) -> None:
    for n in range(250):
        stripe.charge(f"ch_{n:03}", 100, at(3))
        if n:
            lite.payment(f"ch_{n:03}", 100, at(3))
    stripe.faults = [None, *[Reply(500)] * 4]
    told: list[Request] = []

    def channel(request: Request) -> Answer:
        told.append(request)
        return Answer()

    with serving(channel) as worker.env["FOURLANE_CHANNEL_URL"]:
        process = worker.start("worker")
        done = worker(
            "enqueue",
            "fourlane.billing.reconcile",
            '"stripe"',
            '"2026-01-01T00:00:00+00:00"',
            '"2026-02-01T00:00:00+00:00"',
        )
        assert done.returncode == 0, done.stderr
        eventually(lambda: told, 30)
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert json.loads(told[0].body) == {
        "text": "stripe, 2026-01-01 00:00 UTC to 2026-02-01 00:00 UTC: 500 entries compared, 1 missing_here"
    }
    assert lite.findings() == [("missing_here", "ch_000")]
    pages = [path for path in stripe.requests if path.startswith("/v1/charges")]
    assert sum("starting_after" not in path for path in pages) == 1  # the first page was not read again


def test_what_can_never_succeed_is_rejected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lite: Ours, stripe: Stripe
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/test.db")
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_wrong")
    monkeypatch.setenv("FOURLANE_STRIPE_URL", stripe.url)
    with pytest.raises(Reject, match="the key is refused"):
        billing.reconcile.fn("stripe")
    with pytest.raises(Reject, match="before it starts"):
        billing.reconcile.fn("stripe", "2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z")
    with pytest.raises(Reject, match="no time zone"):
        billing.reconcile.fn("stripe", "2026-01-01", "2026-02-01")
    with pytest.raises(Reject, match="Invalid isoformat"):
        billing.reconcile.fn("stripe", "yesterday")


def test_a_retry_after_midnight_is_about_the_same_day(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 3, 2, 0, 1, tzinfo=UTC)
    for job, meant in [
        (None, now),
        (SimpleNamespace(scheduled_for=at(60, 5), enqueued_at_ms=0), at(60, 5)),
        (SimpleNamespace(scheduled_for=None, enqueued_at_ms=int(at(60, 6).timestamp() * 1000)), at(60, 6)),
    ]:
        monkeypatch.setattr(billing, "current_job", lambda job=job: job)
        assert billing._meant_at(now) == meant


@pytest.fixture
def job(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lite: Ours, stripe: Stripe
) -> EnqueuedJob[Any]:
    """The reconciliation of January, enqueued."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/test.db")
    monkeypatch.setenv("STRIPE_SECRET_KEY", stripe.key)
    monkeypatch.setenv("FOURLANE_STRIPE_URL", stripe.url)
    monkeypatch.setenv("FOURLANE_CHANNEL_URL", "https://example.com/channel")
    monkeypatch.setattr(billing.reconcile, "broker", broker)
    broker.declare_actor(billing.reconcile)
    return billing.reconcile.send("stripe", "2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00")


def test_a_retry_does_not_do_again_what_is_done(
    job: EnqueuedJob[Any], broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, stripe: Stripe
) -> None:
    stripe.charge("ch_1", 100, at(3))
    told: list[str] = []

    def tell(text: str) -> str:
        told.append(text)
        if len(told) == 1:
            raise ConnectionError("just then")
        return "x"

    monkeypatch.setattr(billing, "_tell", tell)
    run_worker(broker, "billing")
    eventually(lambda: job.status() is State.DELAYED, 20)
    asked = len(stripe.requests)
    assert asked > 0
    assert job.result(20)["found"] == {"missing_here": 1}
    assert len(stripe.requests) == asked
    assert len(told) == 2


def test_an_open_breaker_postpones_it_without_an_attempt(
    job: EnqueuedJob[Any], broker: RedisBroker, run_worker: RunWorker, stripe: Stripe
) -> None:
    states = ProviderStates(broker.store)
    for caller in range(5):
        states.settle(
            "stripe", Target("stripe").name, caller=caller, verdict="down", second=0, extra_tokens=0, claim=0,
            failures=5, open_ms=30_000, probe_ms=30_000, silence_ms=0,
        )  # fmt: skip
    run_worker(broker, "billing")
    eventually(lambda: job.status() is State.DELAYED, 20)
    assert job.info().attempts == 0
    assert stripe.requests == []
