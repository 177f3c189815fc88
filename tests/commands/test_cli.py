from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from fourlane.cli import main
from fourlane.commands.text import human_age
from fourlane.queues import browse, control, dead_letters
from fourlane.queues.store import Store
from tests.command import Command
from tests.command import command as command
from tests.queues.conftest import Hand
from tests.queues.conftest import hand as hand
from tests.queues.conftest import store as store
from tests.servers import free_port

Run = Callable[..., Result]
QUEUE = "local.jobs.normal.mail"


@pytest.fixture
def run(redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the CLI in an empty folder, on the shared server; ``code`` is the exit code that it must have."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("FOURLANE_NAMESPACE", namespace)

    def invoke(*args: str, code: int = 0, input: str | None = None) -> Result:
        result = CliRunner().invoke(main, args, input=input, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return invoke


def read(result: Result) -> Any:
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (None, "-"),
        (0, "0ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (192_000, "3m 12s"),
        (3_600_000, "1h"),
        (3_605_000, "1h"),
        (90_061_000, "1d 1h"),
    ],
)
def test_human_age(milliseconds: int | None, words: str) -> None:
    assert human_age(milliseconds) == words


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


def test_limits(run: Run) -> None:
    assert "nothing is" in run("limits").stdout
    run("limits", "set", "mail", "--rate", "10", code=1)
    run("limits", "set", "mail", "--rate", "10", "--per", "1m", "--concurrency", "5", "--force")
    assert "10 per 1m, 5 at once" in run("limits", "show", "mail").stdout
    assert read(run("limits", "--json"))["limits"][QUEUE]["per_ms"] == 60_000
    assert run("limits", "set", "mail", code=2)
    assert (
        run("limits", "set", "other", "--burst", "3", "--force", code=1).stderr
        == "error: per_ms and burst need a rate\n"
    )
    run("limits", "clear", "mail")
    assert read(run("limits", "--json")) == {"limits": {}}


def test_jobs(run: Run, hand: Hand, store: Store) -> None:
    [job_id] = hand.enqueue()
    told = run("jobs", "show", job_id).stdout
    assert "ready" in told
    assert "send" in told
    assert read(run("jobs", "show", job_id, "--json"))["kwargs"] == {"to": "x"}
    run("jobs", "cancel", job_id, code=2)
    assert read(run("jobs", "cancel", job_id, "--yes", "--json")) == {"id": job_id, "was": "ready"}
    assert "already" in run("jobs", "cancel", job_id, "--yes").stdout
    for words in (["jobs", "show", "nope"], ["jobs", "cancel", "nope", "--yes"], ["dead", "show", "nope"]):
        result = run(*words, code=1)
        assert result.stderr.startswith("error: there is no ")
        assert len(result.stderr.splitlines()) == 1


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


def test_workers(run: Run, store: Store) -> None:
    assert "no workers" in run("workers").stdout
    said = {"host": "box", "pid": 4321, "seen_ms": browse.now_ms(store), "slots": 8, "queues": [QUEUE]}
    store.connector.command(store.keys.presence, "HSET", store.keys.presence, "w", msgspec.json.encode(said))
    table = run("workers").stdout
    assert "box" in table
    assert "4321" in table
    assert read(run("workers", "--json"))["workers"][0]["name"] == "w"


def test_config_hides_secrets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_live_secret")
    for words in (["config"], ["config", "--json"]):
        told = run(*words).stdout
        assert "FOURLANE_SLOTS" in told
        assert "sk_live_secret" not in told


def test_doctor(run: Run, store: Store) -> None:
    assert {"ok"} <= {f["level"] for f in read(run("doctor", "--json"))["findings"]}
    store.connector.command(store.service("mail").jobs, "SET", store.service("mail").records, "x")
    result = run("doctor", code=1)
    assert "error  types" in result.stdout
    assert "→" in result.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run: Run, shell: str) -> None:
    assert "_FOURLANE_COMPLETE" in run("completion", shell).stdout


def test_faults_are_told_in_a_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no queue name" in run("queues", "pause", "a.b.c", code=1).stderr
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    result = run("queues", code=1)
    assert result.stderr.startswith("error: Redis: ")
    assert len(result.stderr.splitlines()) == 1
    monkeypatch.setenv("FOURLANE_SLOTS", "none")
    assert run("config", code=1).stderr.startswith("error: FOURLANE_SLOTS: ")


def test_without_a_server_there_is_an_error_and_no_server(tmp_path: Path) -> None:
    # In a process of its own: whatever it starts ends with it.
    process = subprocess.run(
        [sys.executable, "-c", "from fourlane.cli import main; main()", "queues"],
        capture_output=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        text=True,
        timeout=30,
    )
    assert process.returncode == 1
    assert process.stderr.startswith("error: ")
    assert "fourlane dev" in process.stderr
    assert not (tmp_path / ".fourlane" / "server.json").exists()


def test_every_command_takes_json() -> None:
    def walk(group: Any) -> int:
        commands = [group.get_command(None, name) for name in group.list_commands(None)]
        for each in commands:
            assert any("--json" in p.opts for p in each.params), each.name
        return len(commands) + sum(walk(each) for each in commands if hasattr(each, "commands"))

    assert walk(main) > 25


def test_a_command_loads_only_itself() -> None:
    program = (
        "import sys; from fourlane.cli import main; main(['jobs', '--help'], standalone_mode=False); "
        "assert not {'fourlane.commands.dead', 'fourlane.commands.worker'} & set(sys.modules), 'not lazy'"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


COMPLETE = """
eval "$(fourlane completion bash)"
complete -p fourlane | grep -q _fourlane_completion || exit 3
COMP_WORDS=({words}); COMP_CWORD={last}
_fourlane_completion fourlane; printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["fourlane", "de"], {"dev"}),
        (["fourlane", "dead", "re"], {"replay"}),
        (["fourlane", "queues", "p"], {"pause", "purge"}),
        (["fourlane", "dead", "replay", "--dr"], {"--dry-run"}),
        (["fourlane", "dead", "list", "--reason", "p"], {"poison"}),
    ],
)
def test_bash_completes(words: list[str], offered: set[str], tmp_path: Path) -> None:
    script = tmp_path / "fourlane"
    script.write_text(f"#!{sys.executable}\nfrom fourlane.cli import main\nmain()\n")
    script.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", COMPLETE.format(words=" ".join(words), last=len(words) - 1)],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert set(done.stdout.split()) >= offered, done.stderr
    assert all(word.startswith(words[-1]) for word in done.stdout.split())


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from fourlane.cli import main; main(['--help'], standalone_mode=False); "
        "assert not {'redis', 'pydantic', 'dramatiq', 'msgspec'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 2)])
def test_a_terminal_is_asked(
    store: Store, hand: Hand, redis_url: str, namespace: str, tmp_path: Path, answer: str, left: int
) -> None:
    hand.enqueue(2)
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", "from fourlane.cli import main; main()", "queues", "purge", "mail"],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=os.environ | {"REDIS_URL": redis_url, "FOURLANE_NAMESPACE": namespace, "PYTHONPATH": str(Path.cwd())},
            text=True,
        )
        os.write(ours, f"{answer}\n".encode())
        out, err = process.communicate(timeout=30)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "Drop all ready and delayed jobs" in out + err
    assert process.returncode == (0 if answer == "y" else 1)
    assert browse.queues(store)[1].ready == left
    assert control.purge(store, "mail") == left


def test_an_estimate_of_an_ai_call(command: Command) -> None:
    told = command("--json", "ai", "estimate", "Hello there", "--max-tokens", "100")
    assert json.loads(told.stdout) | {"prices": ""} == {
        "model": "openai/gpt-4o", "input_tokens": 10, "output_tokens": 100, "cost_usd": 0.001025, "prices": "",
    }  # fmt: skip
    for arguments in (["x", "--model", "gpt-9"], [], ["x", "--max-tokens", "0"]):
        refused = command("ai", "estimate", *arguments)
        assert refused.returncode != 0
        assert "Traceback" not in refused.stderr
    assert "'gpt-9' is no model" in command("ai", "estimate", "x", "--model", "gpt-9").stderr
