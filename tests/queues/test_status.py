"""Whether all goes well: the rules as a table, the look at a real Redis, the command, and its twins in Prometheus."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fourlane.names import Tier
from fourlane.queues import schedules, status
from fourlane.queues.browse import Overrun, QueueInfo, ServiceInfo, WorkerInfo
from fourlane.queues.guards import ProviderState, ProviderStates
from fourlane.queues.status import Beyond, Lag, Late, Seen, Spending, judge, look, runbook
from fourlane.queues.store import Store
from fourlane.scheduler import manage
from tests.command import Command
from tests.command import command as command
from tests.queues.conftest import Hand
from tests.queues.conftest import hand as hand
from tests.queues.conftest import store as store

ROOT = Path(__file__).parents[2]


def queue(tier: Tier = Tier.P1, **given: Any) -> QueueInfo:
    fields = {"ready": 0, "dead": 0, "done": 0, "oldest_age_ms": None, "paused": False, "limit": None} | given
    return QueueInfo(name=f"q{int(tier)}", service="mail", tier=tier, **fields)


def seen(**given: Any) -> Seen:
    one = given.pop("queue", queue())
    service = ServiceInfo("mail", given.pop("delayed", 0), None, 0, 0, given.pop("workers_of_service", 1), [one], 0)
    well: dict[str, Any] = {
        "services": [service], "workers": [], "schedules": [], "providers": [], "memory": None, "died": {},
        "beyond": Beyond(),
    }  # fmt: skip
    well["workers"] = [WorkerInfo(f"w{n}", lost=True) for n in range(given.pop("workers_lost", 0))]
    return Seen(**well | given)


OVERRUN = Overrun("1.x", "send", 12_000)


def provider(state: str) -> ProviderState:
    return ProviderState("openai", "gpt-4o:k", state, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("what", "incidents"),
    [
        (seen(), []),
        (seen(workers_of_service=0, queue=queue(ready=3)), ["NoWorker:mail"]),
        (seen(workers_of_service=0, delayed=1), ["NoWorker:mail"]),
        (seen(workers_of_service=0, queue=queue(ready=3, paused=True)), []),  # an operator wants it so
        (seen(queue=queue(oldest_age_ms=Tier.P1.target_ms + 1)), ["TierPastTarget:q1"]),
        (seen(queue=queue(oldest_age_ms=Tier.P1.target_ms)), []),
        (seen(queue=queue(oldest_age_ms=10**9, paused=True)), []),
        (seen(queue=queue(Tier.P3, oldest_age_ms=300_001)), ["ScheduledTierLate:q3"]),
        (seen(queue=queue(Tier.P3, oldest_age_ms=299_000)), []),
        (seen(died={"q1": 11}), ["DeadLettersRising:q1"]),
        (seen(died={"q1": 10}), []),
        (seen(schedules=[Late("nightly", "mail", 60_001, 60_000)]), ["ScheduleLate:mail/nightly"]),
        (seen(schedules=[Late("nightly", "mail", 60_000, 60_000)]), []),
        (seen(beyond=Beyond([Lag("outbox", "outbox", 5, 60_001)])), ["OutboxLag"]),
        (seen(beyond=Beyond([Lag("outbox", "outbox", 5, 59_000)])), []),
        (seen(beyond=Beyond([Lag("outbox", "outbox", 0, None, 11)])), ["OutboxFailing"]),
        (seen(beyond=Beyond([Lag("outbox", "outbox", 0, None, 10)])), []),
        (seen(beyond=Beyond([Lag("stream", "s", 1_001)])), ["StreamLag:s"]),
        (seen(beyond=Beyond([Lag("stream", "s", 1_000)])), []),
        (seen(beyond=Beyond(unreachable={"the database": "gone"})), ["BeyondUnreachable:the database"]),
        (seen(beyond=Beyond(spending=[Spending("t", 79.0, 100.0)])), []),
        (seen(beyond=Beyond(spending=[Spending("t", 80.0, 100.0)])), ["BudgetNearlySpent:t"]),
        (seen(beyond=Beyond(spending=[Spending("t", 100.0, 100.0)])), ["BudgetSpent:t"]),
        (seen(beyond=Beyond(spending=[Spending("t", 0.0, 0.0)])), ["BudgetSpent:t"]),  # may spend nothing
        # the next call would have passed it
        (seen(beyond=Beyond(spending=[Spending("t", 97.1, 100.0, True)])), ["BudgetSpent:t"]),
        (seen(memory=(81, 100)), ["RedisMemory"]),
        (seen(memory=(81, 0)), []),  # no maxmemory
        (seen(workers_lost=1), ["WorkersLost"]),
        (seen(data_lost=True), ["DataLost"]),
        (seen(workers=[WorkerInfo("w", overrun=OVERRUN)]), ["JobOverrun:1.x"]),
        (seen(workers=[WorkerInfo("w", overrun=OVERRUN, lost=True)]), ["WorkersLost"]),  # it may have ended since
        (seen(providers=[provider("closed")]), []),
        (seen(providers=[provider("open"), provider("probing")]), ["ProviderDown:openai/gpt-4o"]),  # of two keys
    ],
)
def test_rules(what: Seen, incidents: list[str]) -> None:
    assert [trouble.incident for trouble in judge(what)] == incidents


def test_the_urgent_comes_first() -> None:
    found = judge(seen(workers_of_service=0, delayed=1, memory=(99, 100)))
    assert [trouble.severity for trouble in found] == ["critical", "warning"]


def test_each_rule_is_one_of_prometheus_and_has_its_page() -> None:
    text = (ROOT / "deploy/prometheus-rules.yaml").read_text()
    told = dict(re.findall(r"alert: (\w+).*?severity: (\w+)", text, re.DOTALL))
    for rule, severity in status.SEVERITIES.items():
        assert told[rule] == severity, rule
        assert f"runbook: {runbook(rule)}" in text
        assert rule in (ROOT / runbook(rule)).read_text()


# A real Redis -----------------------------------------------------------------------------------------------


def test_a_look_sees_what_is_there(store: Store, hand: Hand) -> None:
    hand.kill(12)
    hand.enqueue(2, service="lone")
    rule = manage.Schedule(name="hourly", service="mail", task="send", cron="0 * * * *")
    manage.put(store, rule)
    states = ProviderStates(store)
    for caller in range(2):
        states.settle("openai", "gpt-4o:k", caller=caller, verdict="down", second=0, extra_tokens=0, claim=0,
                      failures=2, open_ms=60_000, probe_ms=60_000, silence_ms=0)  # fmt: skip
    states._index.announce("openai|gpt-4o:k")
    found = look(store)
    assert sum(found.died.values()) == 12
    assert [(one.name, one.late_ms) for one in found.schedules] == [("hourly", 0)]
    assert {trouble.rule for trouble in judge(found)} == {"NoWorker", "DeadLettersRising", "ProviderDown"}


def test_a_schedule_whose_time_went_by_is_late(store: Store, hand: Hand) -> None:
    hand.enqueue(1)
    manage.put(store, manage.Schedule(name="hourly", service="mail", task="send", cron="0 * * * *"))
    keys = store.service("mail")
    [(schedule, state, _)] = schedules.read(store, "mail", ["hourly"]).values()
    past = msgspec.structs.replace(state, next_ms=schedules.now_ms(store, "mail") - 120_000)
    store.connector.command(keys.states, "HSET", keys.states, "hourly", msgspec.json.encode(past))
    assert "ScheduleLate:mail/hourly" in [trouble.incident for trouble in judge(look(store))]
    paused = msgspec.structs.replace(past, paused=True)
    store.connector.command(keys.states, "HSET", keys.states, "hourly", msgspec.json.encode(paused))
    assert look(store).schedules == []
    assert schedule.late_after_ms == 60_000


# The command ------------------------------------------------------------------------------------------------


def test_nothing_there_is_well(command: Command) -> None:
    done = command("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "all is well" in done.stdout


def test_what_is_wrong_comes_first_and_makes_the_exit_code(command: Command) -> None:
    command.module("mail", "import fourlane\n@fourlane.task(service='mail')\ndef send(): ...")
    assert command("enqueue", "send", "--module", "mail").returncode == 0
    done = command("status")
    assert done.returncode == 1
    assert done.stdout.startswith("critical  1 job(s) of mail wait and have no worker\n")
    assert "docs/runbooks/no-worker.md" in done.stdout
    told = json.loads(command("status", "--json").stdout)
    assert not told["well"]
    assert told["troubles"][0]["rule"] == "NoWorker"
    assert told["services"][0]["queues"][1]["ready"] == 1


def test_a_database_that_is_not_there_is_said_in_a_line(command: Command) -> None:
    done = command("status", DATABASE_URL="postgresql://u:secret@127.0.0.1:1/db")
    assert done.returncode == 1
    assert "the database could not be asked" in done.stdout
    assert "secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
