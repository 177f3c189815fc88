"""All commands: what they load, what they say of faults, what they ask before they act."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fourlane.cli import main
from fourlane.queues import browse, control
from fourlane.queues.store import Store
from tests.commands.conftest import Run
from tests.queues.conftest import Hand
from tests.servers import free_port


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
