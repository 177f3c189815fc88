"""The providers' health, which all workers share, decides whether a send is tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fourlane import State
from fourlane.db.models import NotificationRecord
from fourlane.queues.broker import RedisBroker
from fourlane.queues.guards import ProviderStates
from fourlane.tasks.notifications import Notification, deliver, notify
from fourlane.tasks.notifications.ledger import Ledger
from tests.servers import eventually
from tests.tasks.notifications.standins import Providers
from tests.worker.conftest import RunWorker

Records = Callable[[], list[NotificationRecord]]
MAIL = {"to": "ada@example.com", "subject": "Hi", "text": "Hello Ada"}


@pytest.fixture
def on_broker(broker: RedisBroker, ledger: Ledger) -> Iterator[RedisBroker]:
    """The channels on this test's broker."""
    before = deliver.email.broker
    for task in deliver.TASKS.values():
        task.broker = broker
        broker.declare_actor(task)
    yield broker
    for task in deliver.TASKS.values():
        task.broker = before


def states(broker: RedisBroker) -> dict[str, Any]:
    return {state.provider: state for state in ProviderStates(broker.store).look()}


def test_a_send_that_meets_an_open_breaker_is_postponed_without_an_attempt(
    on_broker: RedisBroker, run_worker: RunWorker, providers: Providers, records: Records
) -> None:
    providers.fail(503, times=20)  # five calls, each tried four times
    jobs = [notify("email", Notification(**MAIL)) for _ in range(5)]
    run_worker(on_broker, "notifications-email", slots=1)
    eventually(lambda: "resend" in states(on_broker) and states(on_broker)["resend"].state == "open", 30)
    late = notify("email", Notification(**MAIL))
    assert late.result(20)["status"] == "sent"  # it is the probe
    assert late.info().attempts == 0
    assert [record.status for record in records() if record.job_id == late.id] == ["sent"]
    eventually(lambda: states(on_broker)["resend"].state == "closed")
    assert all(job.status() is not State.DEAD for job in jobs)


def test_one_channel_down_leaves_the_others_alone(
    on_broker: RedisBroker, run_worker: RunWorker, providers: Providers
) -> None:
    states_of = ProviderStates(on_broker.store)
    run_worker(on_broker, "notifications-email", "notifications-sms")
    notify("email", Notification(**MAIL)).result(20)
    [resend] = states_of.look()
    for caller in range(5):
        states_of.settle(
            "resend", resend.name, caller=caller, verdict="down", second=0, extra_tokens=0, claim=0, failures=5,
            open_ms=30_000, probe_ms=30_000, silence_ms=0,
        )  # fmt: skip
    late = notify("email", Notification(**MAIL))
    assert notify("sms", Notification(to="+4915112345678", text="x")).result(20)["status"] == "sent"
    eventually(lambda: late.status() is State.DELAYED)
    assert len(providers.emails) == 1


def test_a_provider_over_its_limit_is_left_in_peace_by_all(
    on_broker: RedisBroker, run_worker: RunWorker, providers: Providers, records: Records
) -> None:
    providers.fail(429, headers={"retry-after": "30"})
    run_worker(on_broker, "notifications-email", slots=1)
    first = notify("email", Notification(**MAIL))
    eventually(lambda: first.status() is State.DELAYED)
    second = notify("email", Notification(**MAIL))
    eventually(lambda: second.status() is State.DELAYED)
    assert (first.info().attempts, second.info().attempts) == (0, 0)
    assert len(providers.requests) == 1
    asked, spared = sorted(str(record.error) for record in records())
    assert asked.startswith("HTTP 429 Too Many Requests")
    assert spared.startswith("resend is at its limit")


def test_a_recipient_that_is_refused_says_nothing_of_the_provider(
    on_broker: RedisBroker, run_worker: RunWorker, providers: Providers
) -> None:
    providers.fail(422, times=6)
    run_worker(on_broker, "notifications-email")
    jobs = [notify("email", Notification(**MAIL)) for _ in range(6)]
    eventually(lambda: all(job.status() is State.DEAD for job in jobs), 20)
    assert notify("email", Notification(**MAIL)).result(20)["status"] == "sent"
