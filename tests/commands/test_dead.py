"""An operator with a thousand dead letters, through the real command."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fourlane.queues import browse, dead_letters
from fourlane.queues.store import Store
from tests.command import Command
from tests.command import command as command
from tests.queues.conftest import Hand
from tests.queues.conftest import hand as hand
from tests.queues.conftest import store as store

pytestmark = pytest.mark.usefixtures("thousand")


@pytest.fixture
def thousand(hand: Hand) -> None:
    hand.kill(700, task="send-invoice", service="billing")
    hand.kill(300, task="resize", service="images", tier=2, reason="poison")


def read(command: Command, *args: str) -> Any:
    done = command(*args, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_lists_page_through_all(command: Command) -> None:
    ids: list[str] = []
    cursor = ""
    for _ in range(4):
        page = read(command, "dead", "list", "--limit", "300", "--cursor", cursor)
        assert page["total"] == 1_000
        ids += [letter["id"] for letter in page["letters"]]
        cursor = page["cursor"]
    assert cursor == ""
    assert len(ids) == len(set(ids)) == 1_000
    shown = command("dead", "list", "--reason", "poison", "--limit", "3").stdout
    assert shown.count("local.jobs.low.images") == 3
    assert "next page: --cursor" in shown


def test_a_dry_run_changes_nothing(command: Command, store: Store) -> None:
    assert read(command, "dead", "replay", "--reason", "poison", "--dry-run") == {"would_replay": 300}
    assert "for 5m" in command("dead", "replay", "--task", "resize", "--rate", "1", "--dry-run").stdout
    assert read(command, "dead", "discard", "--queue", "billing", "--dry-run") == {"would_discard": 700}
    assert dead_letters.count(store) == 1_000
    assert read(command, "dead", "audit") == {"records": []}
    assert read(command, "dead", "discard", "--older-than", "90m", "--yes") == {"discarded": 0}
    assert command("dead", "audit").stdout.rstrip().endswith("older than 1h 30m")


def test_a_replay_at_a_rate_keeps_ids(command: Command, store: Store) -> None:
    job_id = read(command, "dead", "list", "--queue", "billing", "--limit", "1")["letters"][0]["id"]
    edited = read(command, "dead", "edit", job_id, "--args", '["other"]', "--yes")
    assert (edited["args"], edited["kwargs"]) == (["other"], {"to": "x"})
    done = command("dead", "replay", "--task", "send-invoice", "--rate", "10", "--yes")
    assert done.stdout == "replayed 700 dead letter(s), one after another for 1m 10s\n"
    billing = next(s for s in browse.services(store) if s.name == "billing")
    assert billing.delayed > 600  # the waiting is done in Redis: the command has ended
    last = read(command, "jobs", "show", job_id)
    assert (last["state"], last["args"], len(last["errors"])) == ("delayed", ["other"], 1)
    assert last["due_at_ms"] - browse.now_ms(store) > 50_000
    records = read(command, "dead", "audit")["records"]
    assert [(r["action"], r["count"]) for r in records] == [("replay", 700), ("edit", 1)]
    assert records[0]["filter"] == {"task": "send-invoice"}
    assert all("@" in r["who"] and r["when_ms"] > 0 for r in records)


def test_export_discard_import(command: Command, store: Store) -> None:
    exported = command("dead", "export", "-o", "all.jsonl")
    assert exported.stderr == "wrote 1,000 dead letter(s) to all.jsonl\n"
    assert read(command, "dead", "discard", "--all", "--yes") == {"discarded": 1_000}
    assert dead_letters.count(store) == 0
    assert read(command, "dead", "import", "all.jsonl") == {"taken": 1_000, "skipped": 0}
    assert command("dead", "import", "all.jsonl").stdout.startswith("took in 0 dead letter(s), skipped 1,000")
    assert command("dead", "export").stdout == (command.folder / "all.jsonl").read_text()
    table = command("dead", "audit").stdout.splitlines()
    assert [line.split()[4:6] for line in table[1:]] == [["import", "0"], ["import", "1,000"], ["discard", "1,000"]]


def test_a_damaged_line_is_told_by_its_number(command: Command, store: Store) -> None:
    lines = command("dead", "export").stdout.splitlines()
    read(command, "dead", "discard", "--all", "--yes")
    lines[499] = lines[499][:40]
    done = command("dead", "import", input="\n".join(lines))
    assert done.returncode == 1
    assert done.stderr.startswith("error: line 500: ")
    lines.pop(499)  # mended: what was taken in before is skipped
    assert command("dead", "import", input="\n".join(lines)).returncode == 0
    assert dead_letters.count(store) == 999
