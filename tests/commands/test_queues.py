"""``fourlane queues``, and queues paused and emptied."""

from __future__ import annotations

import signal
import subprocess

import msgspec

from fourlane.queues import browse
from fourlane.queues.store import Store
from tests.command import Command
from tests.command import command as command
from tests.commands.conftest import QUEUE, Run, read
from tests.queues.conftest import Hand


def test_queues(run: Run, hand: Hand) -> None:
    assert "no queues yet" in run("queues").stdout
    hand.enqueue(1_200)
    hand.delay()
    for words in (["queues", "--sample", "0"], ["queues", "list", "--sample", "0"]):
        table = run(*words).stdout.splitlines()
        row = next(line for line in table if line.startswith(QUEUE))
        assert row.split()[1] == "1,200"
        assert len({line.index("READY") + len("READY") for line in table if "READY" in line}) == 1
    for words in (["--json", "queues"], ["queues", "--json"], ["queues", "list", "--json"]):
        [service] = read(run(*words, "--sample", "0"))["services"]
        assert (service["delayed"], service["queues"][1]["ready"]) == (1, 1_200)


def test_rates(run: Run, hand: Hand, store: Store) -> None:
    hand.enqueue(10)
    [service] = read(run("queues", "--json", "--sample", "0.05"))["services"]
    assert service["queues"][1]["done"] is None
    assert " - " in run("queues", "--sample", "0.05").stdout  # nothing is counted: no figure is made up
    key = store.service("mail").stats
    before = browse.services(store)
    store.connector.command(key, "HINCRBY", key, "done:1", 5)
    hand.enqueue(20)
    after = [msgspec.structs.replace(service, at_ms=before[0].at_ms + 2_000) for service in browse.services(store)]
    rates = browse.rates(before, after)
    assert rates[QUEUE] == browse.Rate(done_per_second=2.5, growth_per_second=10.0)
    assert rates["local.jobs.high.mail"] == browse.Rate(done_per_second=None, growth_per_second=0.0)
    row = next(line for line in run("queues", "--sample", "0.05").stdout.splitlines() if line.startswith(QUEUE))
    assert row.split()[3:5] == ["0", "0"]


def test_queues_can_be_watched(hand: Hand, command: Command) -> None:
    hand.enqueue(3)
    process = command.start("queues", "--watch", "--sample", "0.05", stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seen = 0
    for line in process.stdout:
        seen += line.startswith(QUEUE)
        if seen == 2:
            process.send_signal(signal.SIGINT)
            break
    process.stdout.read()
    assert process.wait(30) == 0


def test_pause_resume_purge(run: Run, hand: Hand) -> None:
    assert "was ever seen" in run("queues", "pause", "mail", code=1).stderr
    run("queues", "pause", "mail", "--force")
    hand.enqueue(3)
    assert "already" in run("queues", "pause", QUEUE).stdout
    assert "paused" in run("queues", "--sample", "0").stdout
    assert read(run("queues", "resume", "mail", "--json")) == {
        "queue": QUEUE,
        "paused": False,
        "changed": True,
    }
    assert "say --yes" in run("queues", "purge", "mail", code=2).stderr
    assert read(run("queues", "purge", "mail", "--yes", "--json")) == {"queue": QUEUE, "dropped": 3}
