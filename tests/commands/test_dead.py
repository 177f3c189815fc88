"""``fourlane dead``: one letter, and an operator with a thousand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fourlane.queues import browse, dead_letters
from fourlane.queues.store import Store
from tests.command import Command
from tests.command import command as command
from tests.commands.conftest import Run, read
from tests.queues.conftest import Hand


@pytest.fixture
def thousand(hand: Hand) -> None:
    hand.kill(700, task="send-invoice", service="billing")
    hand.kill(300, task="resize", service="images", tier=2, reason="poison")


def told(command: Command, *args: str) -> Any:
    done = command(*args, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.usefixtures("thousand")
def test_lists_page_through_all(command: Command) -> None:
    ids: list[str] = []
    cursor = ""
    for _ in range(4):
        page = told(command, "dead", "list", "--limit", "300", "--cursor", cursor)
        assert page["total"] == 1_000
        ids += [letter["id"] for letter in page["letters"]]
        cursor = page["cursor"]
    assert cursor == ""
    assert len(ids) == len(set(ids)) == 1_000
    shown = command("dead", "list", "--reason", "poison", "--limit", "3").stdout
    assert shown.count("local.jobs.low.images") == 3
    assert "next page: --cursor" in shown


@pytest.mark.usefixtures("thousand")
def test_a_dry_run_changes_nothing(command: Command, store: Store) -> None:
    assert told(command, "dead", "replay", "--reason", "poison", "--dry-run") == {"would_replay": 300}
    assert "for 5m" in command("dead", "replay", "--task", "resize", "--rate", "1", "--dry-run").stdout
    assert told(command, "dead", "discard", "--queue", "billing", "--dry-run") == {"would_discard": 700}
    assert dead_letters.count(store) == 1_000
    assert told(command, "dead", "audit") == {"records": []}
    assert told(command, "dead", "discard", "--older-than", "90m", "--yes") == {"discarded": 0}
    assert command("dead", "audit").stdout.rstrip().endswith("older than 1h 30m")


@pytest.mark.usefixtures("thousand")
def test_a_replay_at_a_rate_keeps_ids(command: Command, store: Store) -> None:
    job_id = told(command, "dead", "list", "--queue", "billing", "--limit", "1")["letters"][0]["id"]
    edited = told(command, "dead", "edit", job_id, "--args", '["other"]', "--yes")
    assert (edited["args"], edited["kwargs"]) == (["other"], {"to": "x"})
    done = command("dead", "replay", "--task", "send-invoice", "--rate", "10", "--yes")
    assert done.stdout == "replayed 700 dead letter(s), one after another for 1m 10s\n"
    billing = next(s for s in browse.services(store) if s.name == "billing")
    assert billing.delayed > 600  # the waiting is done in Redis: the command has ended
    last = told(command, "jobs", "show", job_id)
    assert (last["state"], last["args"], len(last["errors"])) == ("delayed", ["other"], 1)
    assert last["due_at_ms"] - browse.now_ms(store) > 50_000
    records = told(command, "dead", "audit")["records"]
    assert [(r["action"], r["count"]) for r in records] == [("replay", 700), ("edit", 1)]
    assert records[0]["filter"] == {"task": "send-invoice"}
    assert all("@" in r["who"] and r["when_ms"] > 0 for r in records)


@pytest.mark.usefixtures("thousand")
def test_export_discard_import(command: Command, store: Store) -> None:
    exported = command("dead", "export", "-o", "all.jsonl")
    assert exported.stderr == "wrote 1,000 dead letter(s) to all.jsonl\n"
    assert told(command, "dead", "discard", "--all", "--yes") == {"discarded": 1_000}
    assert dead_letters.count(store) == 0
    assert told(command, "dead", "import", "all.jsonl") == {"taken": 1_000, "skipped": 0}
    assert command("dead", "import", "all.jsonl").stdout.startswith("took in 0 dead letter(s), skipped 1,000")
    assert command("dead", "export").stdout == (command.folder / "all.jsonl").read_text()
    table = command("dead", "audit").stdout.splitlines()
    assert [line.split()[4:6] for line in table[1:]] == [["import", "0"], ["import", "1,000"], ["discard", "1,000"]]


@pytest.mark.usefixtures("thousand")
def test_a_damaged_line_is_told_by_its_number(command: Command, store: Store) -> None:
    lines = command("dead", "export").stdout.splitlines()
    told(command, "dead", "discard", "--all", "--yes")
    lines[499] = lines[499][:40]
    done = command("dead", "import", input="\n".join(lines))
    assert done.returncode == 1
    assert done.stderr.startswith("error: line 500: ")
    lines.pop(499)  # mended: what was taken in before is skipped
    assert command("dead", "import", input="\n".join(lines)).returncode == 0
    assert dead_letters.count(store) == 999


def test_dead_list_show_and_pages(run: Run, hand: Hand) -> None:
    assert "no dead letters" in run("dead", "list").stdout
    hand.kill(5, detail="bad\x1b[31m\nnews")
    first = run("dead", "list", "--limit", "3")
    assert "\x1b" not in first.stdout
    assert "5 in all" in first.stdout
    cursor = first.stdout.split("--cursor ")[1].strip()
    assert "--cursor" not in run("dead", "list", "--page", cursor).stdout
    page = read(run("dead", "list", "--json", "--older-than", "1h30m"))
    assert page == {"letters": [], "cursor": "", "total": 0}
    job_id = read(run("dead", "list", "--json"))["letters"][0]["id"]
    told = run("dead", "show", job_id).stdout
    assert "ValueError: boom" in told
    assert "\x1b" not in told
    assert run("dead", "list", "--newer-than", "soon", code=2)
    assert "no cursor" in run("dead", "list", "--cursor", "zzz", code=1).stderr


def test_dead_replay_and_discard(run: Run, hand: Hand, store: Store) -> None:
    a, b, *_ = hand.kill(6)
    for verb in ("replay", "discard"):
        run("dead", verb, code=2)  # never all by an empty command line
        run("dead", verb, a, "--all", code=2)
        run("dead", verb, "--all", code=2)  # nobody to ask
        assert "6 dead" in run("dead", verb, "--all", "--dry-run").stdout
    assert read(run("dead", "replay", a, "--json")) == {"replayed": 1}
    assert read(run("dead", "discard", b, "--queue", "mail", "--yes", "--json")) == {"discarded": 1}
    run("dead", "replay", "--task", "send", "--rate", "0", "--yes", code=2)
    assert "replayed 4" in run("dead", "replay", "--task", "send", "--rate", "100", "--yes").stdout
    assert dead_letters.count(store) == 0


def test_dead_edit(run: Run, hand: Hand, store: Store) -> None:
    [job_id] = hand.kill()
    run("dead", "edit", job_id, "--args", "{}", "--yes", code=2)
    run("dead", "edit", job_id, "--args", "nonsense", "--yes", code=2)
    run("dead", "edit", job_id, "--yes", code=2)
    run("dead", "edit", job_id, "--args", "[1]", code=2)
    run("dead", "edit", job_id, "--args", "[7]", "--kwargs", '{"a": null}', "--yes")
    info = dead_letters.show(store, job_id)
    assert (info.args, info.kwargs) == ([7], {"a": None})


def test_dead_export_and_import(run: Run, hand: Hand, tmp_path: Path) -> None:
    hand.kill(3)
    lines = run("dead", "export").stdout
    assert len(lines.splitlines()) == 3
    assert [line["id"] for line in read(run("dead", "export", "--json"))] == [
        json.loads(line)["id"] for line in lines.splitlines()
    ]
    run("dead", "export", "-o", str(tmp_path / "x"))
    assert (tmp_path / "x").read_text() == lines
    run("dead", "discard", "--all", "--yes")
    assert read(run("dead", "import", "--json", input=lines)) == {"taken": 3, "skipped": 0}
    assert "skipped 3" in run("dead", "import", str(tmp_path / "x")).stdout
    assert run("dead", "import", input="x", code=1).stderr.startswith("error: line 1: ")
