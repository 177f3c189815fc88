"""What runs now, and where the time goes: signals to the real command, with threads, coroutines and processes."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Command, run_python
from tests.servers import eventually

TASKS = """
import asyncio, time
import fourlane

def spin(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))

@fourlane.task(service="shop")
def burn(seconds):
    spin(seconds)

@fourlane.task(service="shop")
def lie_still():
    fourlane.current_job().cancel_token.wait(60)

@fourlane.task(service="shop")
async def doze():
    await asyncio.sleep(60)

@fourlane.task(service="shop")
async def churn(seconds):
    spin(seconds)
"""


@pytest.fixture
def command(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Command]:
    made = Command(tmp_path, REDIS_URL=redis_url, FOURLANE_NAMESPACE=namespace, PYTHONWARNINGS="ignore")
    made.module("shop", TASKS)
    yield made
    made.close()


def started(command: Command, log: Path, *options: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        worker = command.start("worker", "shop", *options, stderr=stream)
    eventually(lambda: "ready:" in log.read_text(), 30)
    return worker


def is_running(command: Command, number: int) -> bool:
    return f'"running": {number}' in command("queues", "--json").stdout.replace('":', '": ').replace("  ", " ")


def test_sigusr1_says_what_each_slot_and_coroutine_does(command: Command, tmp_path: Path) -> None:
    log = tmp_path / "log"
    worker = started(command, log, "--processes", "2", "--slots", "2")
    run_python(command, "import shop; shop.lie_still.send(); shop.lie_still.send(); shop.doze.send()")
    eventually(lambda: is_running(command, 3), 20)
    worker.send_signal(signal.SIGUSR1)
    for words, number in (
        (r"stacks: \d of 2 slot\(s\) busy", 2),  # a line for each process
        (r"slot=\d job=\S+ task=lie_still since_seconds=\d", 2),
        (r"coroutine job=\S+ task=doze since_seconds=\d", 1),
        (r"cancel_token\.wait\(60\)", 2),
        (r"asyncio\.sleep\(60\)", 1),
    ):
        eventually(lambda w=words, n=number: len(re.findall(w, log.read_text())) == n)  # type: ignore[misc]
    assert worker.poll() is None


def test_a_profile_tells_the_tasks_apart(command: Command, tmp_path: Path) -> None:
    log = tmp_path / "log"
    worker = started(command, log, "--profile", "--slots", "2")
    run_python(command, "import shop; shop.burn.send(1.5); shop.churn.send(1.0); shop.lie_still.send()")
    eventually(lambda: is_running(command, 1), 20)
    worker.send_signal(signal.SIGUSR2)
    [file] = eventually(lambda: list(tmp_path.glob("fourlane-profile-*.txt")))
    eventually(lambda: "profile: " in log.read_text())
    assert worker.poll() is None
    early = samples(file)
    assert share(early, "slots;task burn;", "spin (") > 0.9
    assert share(early, "event loop;task churn;", "spin (") > 0.9
    assert share(early, "slots;task lie_still;", "CancelToken.wait (") > 0.9
    assert sum(number for stack, number in early.items() if stack.startswith("worker's loop;")) > 20
    file.unlink()
    worker.terminate()
    assert worker.wait(30) == 0
    assert sum(samples(file).values()) >= sum(early.values())
    assert re.search(r"× slots: task burn \(", log.read_text())


def samples(file: Path) -> dict[str, int]:
    pairs = [line.rsplit(" ", 1) for line in file.read_text().splitlines()]
    return {stack: int(number) for stack, number in pairs}


def share(found: dict[str, int], who: str, function: str) -> float:
    """Of what is counted for someone, how much was inside a function."""
    whole = sum(number for stack, number in found.items() if stack.startswith(who))
    inside = sum(number for stack, number in found.items() if stack.startswith(who) and function in stack)
    return inside / max(1, whole)


def test_without_profile_nothing_is_sampled(command: Command, tmp_path: Path) -> None:
    worker = started(command, tmp_path / "log")
    worker.terminate()
    assert worker.wait(30) == 0
    assert not list(tmp_path.glob("fourlane-profile-*"))
