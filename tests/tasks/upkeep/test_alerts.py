"""Alerts without an Alertmanager: from a planted fault to the message, and back to resolved."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fourlane.config import load_settings
from fourlane.errors import RedisUnavailable, SettingsError
from fourlane.queues import browse, control, dead_letters, doctor
from fourlane.queues.status import Trouble
from fourlane.queues.store import Store
from fourlane.scheduler import manage
from fourlane.tasks.notifications.ledger import Ledger
from fourlane.tasks.upkeep import alerts
from fourlane.tasks.upkeep.alerts import Alarm, Told
from tests.command import Command
from tests.queues.conftest import Hand
from tests.queues.conftest import hand as hand
from tests.queues.conftest import store as store
from tests.servers import eventually
from tests.tasks.notifications.conftest import command as command
from tests.tasks.notifications.conftest import database as database
from tests.tasks.notifications.conftest import environment as environment
from tests.tasks.notifications.conftest import ledger as ledger
from tests.tasks.notifications.conftest import providers as providers
from tests.tasks.notifications.standins import Providers

CHANNELS: dict[str, alerts.Channel] = {"critical": "pagerduty", "warning": "slack"}
DOWN = Trouble("NoWorker", "shop", "3 job(s) of shop wait and have no worker")
FULL = Trouble("RedisMemory", "", "Redis uses 90% of its maxmemory")


def looks(*found: list[Trouble]) -> list[list[str]]:
    """What each of these looks tells."""
    alarms: dict[str, Alarm] = {}
    said = []
    for number, troubles in enumerate(found):
        alarms, told = alerts.notice(alarms, troubles, number * 60_000, CHANNELS)
        said.append([f"{'-' if one.resolved else '+'}{one.alarm.incident} {one.alarm.told}" for one in told])
    return said


UP, WELL = "+NoWorker:shop pagerduty", "-NoWorker:shop pagerduty"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([[], []], [[], []]),
        ([[DOWN]], [[]]),  # one look may err
        ([[DOWN], [], [DOWN]], [[], [], []]),  # it comes and goes
        ([[DOWN]] * 4, [[], [UP], [], []]),  # told once
        ([[DOWN], [DOWN], [], [DOWN], []], [[], [UP], [], [], []]),  # it flaps
        ([[DOWN], [DOWN], [], [], []], [[], [UP], [], [WELL], []]),
        ([[DOWN], [DOWN], [], [], [DOWN], [DOWN]], [[], [UP], [], [WELL], [], [UP]]),  # a new incident
        ([[DOWN, FULL]] * 3, [[], [UP, "+RedisMemory slack"], []]),
        ([[FULL], [DOWN, FULL], [DOWN]], [[], ["+RedisMemory slack"], [UP]]),
    ],
)
def test_what_is_told_after_each_look(found: list[list[Trouble]], said: list[list[str]]) -> None:
    assert looks(*found) == said


def test_a_flood_is_told_in_parts_and_what_is_kept_is_bounded() -> None:
    flood = [Trouble("TierPastTarget", f"q{number}", "late") for number in range(1_000)]
    alarms: dict[str, Alarm] = {}
    told: list[Told] = []
    for number in range(20):
        alarms, some = alerts.notice(alarms, flood, number, CHANNELS)
        assert len(some) <= 20
        told += some
    assert len(alarms) == 200
    assert len({one.alarm.incident for one in told}) == len(told) == 200
    alarms, _ = alerts.notice(alarms, [DOWN, *flood[1:200]], 20, CHANNELS)
    assert "NoWorker:shop" not in alarms  # there is no room yet
    for number in range(20):
        alarms, some = alerts.notice(alarms, [], number, CHANNELS)
        told += some
    assert len([one for one in told if one.resolved]) == 200
    assert alarms == {}


def test_a_look_that_is_cut_off_tells_the_same_again(store: Store) -> None:
    """Then the dedup key of the two is one, and the ledger sends one."""
    alerts.look_again(store, [DOWN], 1_000, CHANNELS)
    first: list[Told] = []

    def cut_off(_: Store, told: Told) -> None:
        first.append(told)
        raise RedisUnavailable("gone")

    with pytest.raises(RedisUnavailable):
        alerts.look_again(store, [DOWN], 61_000, CHANNELS, cut_off)
    second: list[Told] = []
    alerts.look_again(store, [DOWN], 121_000, CHANNELS, lambda _, told: second.append(told))
    alerts.look_again(store, [DOWN], 181_000, CHANNELS, lambda _, told: second.append(told))
    assert [one.alarm.since_ms for one in first] == [one.alarm.since_ms for one in second] == [1_000]


def test_the_doctor_knows_what_is_kept_and_it_ends(store: Store) -> None:
    alerts.look_again(store, [DOWN], 1_000, CHANNELS)
    key = store.keys.alerts
    assert 0 < store.connector.command(key, "TTL", key) <= 7 * 86_400
    findings = doctor.examine(store, workers=browse.workers(store))
    assert [f.text for f in findings if "alerts" in f.text] == []
    alerts.look_again(store, [], 2_000, CHANNELS)
    assert store.connector.command(key, "EXISTS", key) == 0


@pytest.mark.parametrize(
    ("given", "channels"),
    [
        ({"pagerduty_routing_key": "R", "slack_webhook_url": "https://s"}, ("pagerduty", "slack", "slack")),
        ({"slack_webhook_url": "https://s"}, ("slack", "slack", "slack")),
        ({"pagerduty_routing_key": "R"}, ("pagerduty", "pagerduty", "pagerduty")),
        (
            {"alert_email": "a@x.org", "email_from": "f@x.org", "resend_api_key": "k", "pagerduty_routing_key": "R"},
            ("pagerduty", "email", "email"),
        ),
        ({"alert_email": "a@x.org"}, None),  # nobody sends it
        ({}, None),
    ],
)
def test_the_channel_of_a_severity(given: dict[str, Any], channels: tuple[str, ...] | None) -> None:
    settings = load_settings(**given)
    if channels is None:
        with pytest.raises(SettingsError, match="FOURLANE_ALERTS: there is nobody to tell; set FOURLANE_PAGERDUTY"):
            alerts.routes(settings)
    else:
        assert alerts.routes(settings) == dict(zip(("critical", "warning", "info"), channels, strict=True))


def run_look(store: Store) -> None:
    """One look by the worker, to its end."""
    job = manage.fire(store, "alerts")
    eventually(lambda: any((r.job, r.state) == (job, "done") for r in manage.history(store, "alerts")), 20)


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("warned", ["slack", "email"])
def test_from_a_fault_to_the_message_and_back(
    command: Command, ledger: Ledger, providers: Providers, store: Store, hand: Hand, warned: str
) -> None:
    def pages() -> list[tuple[str, str]]:
        bodies = [json.loads(r.body) for r in providers.requests if r.path == "/v2/enqueue"]
        return [(body["event_action"], body["dedup_key"]) for body in bodies]

    def warnings() -> list[str]:
        """Those of dead letters; the job that waits may be past its target too."""
        said = [text.splitlines()[0].strip("*") for text in providers.chat]
        if warned == "email":
            said = [email["subject"] for email in providers.emails if email["to"] == ["ops@example.com"]]
        return [text for text in said if "dead letters" in text]

    command.env |= {"FOURLANE_ALERTS": "true"}
    if warned == "email":
        del command.env["FOURLANE_SLACK_WEBHOOK_URL"]
        command.env["FOURLANE_ALERT_EMAIL"] = "ops@example.com"
    log = command.folder / "log"
    with log.open("wb") as stream:
        command.start("worker", "fourlane.tasks.notifications", "--scheduler", stderr=stream)
    eventually(lambda: "ready:" in log.read_text(), 30)
    run_look(store)
    run_look(store)
    assert (pages(), warnings()) == ([], [])  # all is well

    hand.enqueue(1, service="lonely")
    hand.kill(11)
    run_look(store)
    run_look(store)
    incident = "fourlane:local:NoWorker:lonely"
    eventually(lambda: pages() and warnings(), 20)
    assert pages() == [("trigger", incident)]
    assert warnings() == ["local.jobs.normal.mail: 11 dead letters in 30 minutes"]
    [page] = providers.pages.values()
    assert page["payload"]["severity"] == "critical"
    assert page["payload"]["summary"] == "1 job(s) of lonely wait and have no worker"
    assert "docs/runbooks/no-worker.md" in page["payload"]["custom_details"]["text"]

    run_look(store)  # it lasts, and nobody is told again
    control.purge(store, "jobs.normal.lonely")
    dead_letters.discard(store, dead_letters.Filter(queue="jobs.normal.mail"))
    run_look(store)
    run_look(store)
    eventually(lambda: len(pages()) > 1 and len(warnings()) > 1, 20)
    assert pages()[1:] == [("resolve", incident)]
    assert warnings()[1:] == ["Resolved: local.jobs.normal.mail: 11 dead letters in 30 minutes"]
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
def test_alerts_for_nobody_are_refused_in_a_line(command: Command) -> None:
    for name in ("FOURLANE_PAGERDUTY_ROUTING_KEY", "FOURLANE_SLACK_WEBHOOK_URL"):
        del command.env[name]
    for program in (("worker", "--scheduler"), ("scheduler",)):
        done = command(*program, FOURLANE_ALERTS="true")
        assert done.returncode != 0
        assert "FOURLANE_ALERTS: there is nobody to tell; set FOURLANE_PAGERDUTY_ROUTING_KEY" in done.stderr
        assert "Traceback" not in done.stderr
