"""Deliveries whose job is gone, and endpoints whose way is opened again."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from fourlane.db.models import JobOutbox, WebhookDelivery, WebhookEndpoint
from fourlane.queues import control
from fourlane.tasks.webhooks import change_endpoint, jobless, lines, policy, rows
from fourlane.tasks.webhooks.doctor import examine_deliveries
from fourlane.tasks.webhooks.events import may_be_resent, resend
from tests.http_server import Reply
from tests.tasks.webhooks.test_endpoints import World
from tests.tasks.webhooks.test_endpoints import _keys as _keys
from tests.tasks.webhooks.test_endpoints import world as world

LONG_AGO = datetime.now(UTC) - timedelta(hours=2)


def cancel(world: World, delivery: uuid.UUID) -> None:
    control.cancel(world.broker.store, str(world.delivery(delivery).job_id), "jobs.normal.webhooks")


def age(world: World) -> None:
    """All deliveries were made, and last touched, long ago."""
    with world.database.begin() as session:
        for row in session.query(WebhookDelivery):
            row.created_at = row.updated_at = LONG_AGO


def test_a_delivery_whose_job_was_cancelled_is_not_pending_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobless, "_CHUNK", 2)
    store, hour = world.broker.store, datetime.now(UTC) - jobless.PATIENCE
    world.endpoint()
    gone, waiting, dead = (world.send("a", n)[0] for n in range(3))
    world.relay()
    cancel(world, gone)
    [unrelayed] = world.send("a", 3)
    [refused] = world.send("a", 4)
    with world.database.begin() as session:
        row = session.query(JobOutbox).filter_by(id=uuid.UUID(world.delivery(refused).job_id)).one()
        row.failed_at = LONG_AGO
    cancel(world, dead)
    assert jobless.fail(world.database, store, before=hour) == 0  # not for an hour yet
    age(world)
    assert jobless.count(world.database, store, before=hour) == (3, 5)
    [finding] = examine_deliveries(world.database, store)
    assert (finding.level.value, finding.text[:6]) == ("warn", "3 of 5")
    assert jobless.fail(world.database, store, before=hour) == 3
    assert {id: world.delivery(id).status for id in (gone, waiting, dead, unrelayed, refused)} == {
        gone: "failed",
        waiting: "pending",
        dead: "failed",
        unrelayed: "pending",
        refused: "failed",
    }
    assert world.delivery(gone).error == "its job is gone: resend it"
    assert examine_deliveries(world.database, store)[0].level.value == "ok"
    world.work()
    assert world.statuses() == {"delivered": 2, "failed": 3}


def test_what_has_lost_its_job_can_be_sent_again_while_it_is_pending(world: World) -> None:
    world.endpoint()
    gone, waiting = (world.send("a", n)[0] for n in range(2))
    [unrelayed] = world.send("a", 2)
    world.relay()
    cancel(world, gone)
    [unrelayed] = world.send("a", 3)
    with world.database.begin() as session:
        all_of_them = [session.get_one(WebhookDelivery, id) for id in (gone, waiting, unrelayed)]
        assert [delivery.id for delivery in may_be_resent(session, all_of_them)] == [gone]
        assert resend(session, all_of_them) == 1
    world.work()
    assert world.statuses() == {"delivered": 4}
    assert sorted(world.receiver.data()) == [0, 1, 2, 3]


def closed_for_an_hour(world: World) -> WebhookEndpoint:
    """An endpoint that said so to the first of three deliveries of one key, behind which another waits."""
    endpoint = world.endpoint(ordered=True)
    world.receiver.answers = [Reply(503, b"", {"retry-after": "3600"})]
    [head] = world.send("a", 0, order_key="k")
    world.work(until=lambda: world.delivery(head).attempts == 1)
    world.send("a", 1, order_key="k")
    world.send("a", 2)
    return endpoint


@pytest.mark.parametrize("how", ["enable", "change", "disable"])
def test_who_is_repaired_or_disabled_need_not_wait_an_hour(world: World, how: str) -> None:
    endpoint = closed_for_an_hour(world)
    world.relay()
    with world.database.begin() as session:
        row = session.get_one(WebhookEndpoint, endpoint.id)
        if how == "enable":
            rows.enable(session, row, actor="ops")
        elif how == "change":
            change_endpoint(row, url=world.receiver.url + "/new")
        else:
            rows.disable(session, row, "asked for", actor="ops", now=datetime.now(UTC))
    world.work()
    assert world.statuses() == {"skipped" if how == "disable" else "delivered": 3}
    seen = [] if how == "disable" else [0, 1]
    assert [n for n in world.receiver.data()[1:] if n != 2] == seen  # in their order
    assert world.get(endpoint.id).consecutive_failures == (1 if how == "disable" else 0)


def test_who_is_disabled_for_failing_holds_nobody_up(world: World) -> None:
    endpoint = world.endpoint(ordered=True)
    with world.database.begin() as session:
        session.get_one(WebhookEndpoint, endpoint.id).failing_since = datetime.now(UTC) - timedelta(days=6)
    world.receiver.answers = [Reply(503, b"", {"retry-after": "3600"})]
    for n in range(3):
        world.send("a", n, order_key="k")
    world.work()
    assert world.statuses() == {"skipped": 3}
    assert world.receiver.data() == [0]


def test_slowness_narrows_also_what_an_organizations_share_bounds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = lines.Shares(of_tenant=5, to_receiver=20)
    monkeypatch.setattr(lines, "_shares_of", lambda of: shares)
    policy.configure(allow_private=True, timeout_seconds=10, slow_seconds=0.1)
    endpoint = world.endpoint(max_concurrency=1_000)
    world.receiver.pause_seconds = 0.2
    for n in range(14):
        world.send("a", n)
    world.relay()
    world.work()
    assert world.get(endpoint.id).consecutive_slow == 5
    moments = [moment for moment, _ in world.receiver.arrived]
    assert world.receiver.most == 5
    assert all(after - before > 0.19 for before, after in itertools.pairwise(moments[-4:])), moments
