"""Real worker and receiver processes: the main flow, deploys, deaths in the middle of thousands of events."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fourlane.events.aws import Aws
from fourlane.events.local import LocalSqs
from fourlane.events.names import EventQueue
from fourlane.events.provision import ensure
from fourlane.events.publisher import Publisher
from fourlane.events.tries import POISON
from fourlane.queues.broker import RedisBroker
from tests.command import Command
from tests.command import command as command
from tests.events.conftest import drain, queue_of
from tests.events.test_consuming import in_sqs
from tests.servers import eventually

MODULE = """
import ctypes, os
import fourlane
from pydantic import BaseModel

class Signup(BaseModel):
    n: int

fourlane.events.declare("{platform}", Signup)
out = os.open("out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def tell(word, event):
    os.write(out, f"{{word}} {{event.id}}\\n".encode())

@fourlane.on_event("{platform}", tier="P0")
def moved(event):
    assert isinstance(event.data, Signup)
    if event.data.n < 0:
        ctypes.PyDLL(None).sleep(-event.data.n)  # holds the GIL
    tell("moved", event)

@fourlane.on_event("{audit}")
def direct(event):
    tell("direct", event)
"""


def told(command: Command, word: str) -> list[str]:
    path = command.folder / "out"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1] for line in lines if line.startswith(word + " ")]


def receivers(of: subprocess.Popen[Any]) -> list[int]:
    """The pids of receiver processes under a supervisor."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if b"fourlane.events.process" in (folder / "cmdline").read_bytes():
                    parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                    above = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
                    if above == of.pid:
                        found.append(int(folder.name))
            except OSError:
                continue
    return found


@pytest.fixture
def audit(event: str) -> str:
    return event.replace("platform", "audit")


@pytest.fixture
def module(command: Command, event: str, audit: str) -> str:
    return command.module("handlers", MODULE.format(platform=event, audit=audit))


def test_the_four_words_publish_receive_handle_stop(
    command: Command, module: str, event: str, audit: str, moto: LocalSqs
) -> None:
    with (command.folder / "log").open("wb") as log:
        worker = command.start("worker", module, "--processes", "2", stderr=log)
    for name, data in ((event, '{"n": 1}'), (audit, '{"who": "ada"}')):
        done = command("events", "publish", name, data)
        assert (done.returncode, done.stderr) == (0, "")
    eventually(lambda: told(command, "moved") and told(command, "direct"), 40)
    assert len(receivers(worker)) == 2, "one for each way, however many processes"
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0, (command.folder / "log").read_text()
    eventually(lambda: not receivers(worker))
    assert "Traceback" not in (command.folder / "log").read_text()


def test_handlers_that_hold_the_gil_do_not_stall_receives(
    command: Command, module: str, event: str, aws: Aws, broker: RedisBroker, queue: EventQueue, publisher: Publisher
) -> None:
    command.start("worker", module, "--slots", "1")
    publisher.publish(event, {"n": 1})
    eventually(lambda: len(told(command, "moved")) == 1, 40)
    publisher.publish(event, {"n": -8})
    eventually(lambda: in_sqs(aws, queue) == 0)
    publisher.publish_many(event, [{"n": 2}] * 30)
    eventually(lambda: in_sqs(aws, queue) == 0, 6)  # into Redis, while the worker sleeps
    assert len(told(command, "moved")) == 1
    eventually(lambda: len(told(command, "moved")) == 32, 20)


def test_a_killed_worker_leaves_no_receiver_and_another_takes_over(
    command: Command, module: str, event: str, queue: EventQueue, publisher: Publisher
) -> None:
    worker = command.start("worker", module, "--processes", "2")
    before = eventually(lambda: len(receivers(worker)) == 2 and receivers(worker), 40)
    parents = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in before}
    for pid in parents:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not set(before) & set(receivers(worker)))
    eventually(lambda: len(receivers(worker)) == 2, 20)
    publisher.publish(event, {"n": 1})
    eventually(lambda: told(command, "moved"), 20)


def _kill_test(
    command: Command, module: str, event: str, endpoint: str, number: int, *, everything: bool
) -> Counter[str]:
    """Publish, and kill -9 in the middle, twice: the receiver, or all. Returns how often each event was handled."""
    aws = Aws(endpoint=endpoint)
    queue = queue_of(event)
    ensure(aws, queue)
    env = {"AWS_ENDPOINT_URL": endpoint, "FOURLANE_EVENTS_VISIBILITY_SECONDS": "5"}
    command.env |= env
    with Publisher(aws, environment="local", source="/t") as publisher:
        ids = {one.id for one in publisher.publish_many(event, ({"n": n} for n in range(number)))}
    worker = command.start("worker", module)
    for share in (0.2, 0.5):
        eventually(lambda share=share: len(told(command, "moved")) >= number * share, 90)  # type: ignore[misc]
        if everything:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait(10)
            worker = command.start("worker", module)
        else:
            eventually(partial(receivers, worker), 20)
            for pid in receivers(worker):
                os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(set(told(command, "moved"))) == number and in_sqs(aws, queue) == 0, 90)
    handled = Counter(told(command, "moved"))
    assert set(handled) == ids
    assert not drain(aws, queue.dead_letters)
    return handled


@pytest.mark.timeout(240)
def test_ten_thousand_events_and_a_receiver_killed_in_the_middle(
    command: Command, module: str, event: str, ministack: str
) -> None:
    handled = _kill_test(command, module, event, ministack, 10_000, everything=False)
    assert set(handled.values()) == {1}, "effects stay single"


@pytest.mark.timeout(240)
def test_ten_thousand_events_and_the_whole_worker_killed_in_the_middle(
    command: Command, module: str, event: str, ministack: str
) -> None:
    handled = _kill_test(command, module, event, ministack, 10_000, everything=True)
    # A job that ran when its worker died runs again: eight slots, twice.
    assert sum(handled.values()) - len(handled) <= 16


def test_a_receiver_killed_in_the_middle_on_moto(command: Command, module: str, event: str, moto: LocalSqs) -> None:
    handled = _kill_test(command, module, event, moto.endpoint, 150, everything=False)
    assert set(handled.values()) == {1}


DIRECT = """
import os, time
import fourlane

out = os.open("out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

@fourlane.on_event("{audit}", task_name="direct", timeout_ms=30_000)
def direct(event):
    os.write(out, f"begun {{event.id}} {{event.data['n']}}\\n".encode())
    if event.data["n"] < 0:
        os.abort()
    time.sleep(event.data.get("seconds", 0.02))
    os.write(out, f"direct {{event.id}}\\n".encode())
"""


def _killed_all_the_time(command: Command, worker: subprocess.Popen[Any], is_done: Callable[[], bool]) -> int:
    """Kill the receiver half a second after it began to handle something, until all is done. Returns how often."""
    kills, deadline = 0, time.monotonic() + 60
    while not is_done():
        assert time.monotonic() < deadline
        before = len(told(command, "begun"))
        eventually(lambda before=before: len(told(command, "begun")) > before or is_done(), 20)  # type: ignore[misc]
        time.sleep(0.5)
        for pid in receivers(worker) if not is_done() else ():
            os.kill(pid, signal.SIGKILL)
            kills += 1
    return kills


def test_receivers_that_are_killed_all_the_time_bury_no_good_event(command: Command, audit: str, aws: Aws) -> None:
    module = command.module("killed", DIRECT.format(audit=audit))
    command.env["FOURLANE_EVENTS_VISIBILITY_SECONDS"] = "3"  # for what SQS sent to one that was just killed
    queue = queue_of(audit)
    ensure(aws, queue)
    with Publisher(aws, environment="local", source="/t") as publisher:
        ids = {one.id for one in publisher.publish_many(audit, ({"n": n} for n in range(200)))}
    worker = command.start("worker", module)
    eventually(lambda: told(command, "direct"), 40)
    kills = _killed_all_the_time(
        command, worker, lambda: set(told(command, "direct")) == ids and in_sqs(aws, queue) == 0
    )
    assert kills >= 2
    assert not drain(aws, queue.dead_letters)


def test_an_event_that_kills_its_receivers_ends_and_its_company_does_not(
    command: Command, audit: str, aws: Aws
) -> None:
    module = command.module("poison", DIRECT.format(audit=audit))
    command.env["FOURLANE_EVENTS_VISIBILITY_SECONDS"] = "5"
    queue = queue_of(audit)
    ensure(aws, queue)
    with Publisher(aws, environment="local", source="/t") as publisher:
        bad = {one.id for one in publisher.publish_many(audit, [{"n": -1}])}
        good = {one.id for one in publisher.publish_many(audit, ({"n": n, "seconds": 0.3} for n in range(20)))}
    command.start("worker", module)
    eventually(lambda: set(told(command, "direct")) == good and in_sqs(aws, queue) == 0, 50)
    [buried] = drain(aws, queue.dead_letters)
    assert buried.reason == POISON
    assert 3 <= told(command, "begun").count(bad.pop()) <= 5, "twice in company at most"


def test_what_a_killed_worker_had_in_hand_comes_back_at_once(command: Command, audit: str, aws: Aws) -> None:
    module = command.module("slow", DIRECT.format(audit=audit))
    queue = queue_of(audit)
    ensure(aws, queue)
    with Publisher(aws, environment="local", source="/t") as publisher:
        publisher.publish_many(audit, [{"n": 1, "seconds": 20}, {"n": 2, "seconds": 20}])
    worker = command.start("worker", module)
    eventually(lambda: len(told(command, "begun")) == 2, 40)
    for pid in receivers(worker):
        os.kill(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
    began = time.monotonic()
    eventually(lambda: len(told(command, "begun")) >= 4, 20)
    assert time.monotonic() - began < 15


def test_a_receiver_whose_worker_died_while_it_started_it_ends_quietly() -> None:
    for given in (b"", b'{"modules": ['):
        done = subprocess.run(
            [sys.executable, "-m", "fourlane.events.process"], input=given, capture_output=True, timeout=20, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")


def test_the_main_flow_on_a_second_server(
    command: Command, module: str, event: str, audit: str, ministack: str
) -> None:
    command.env["AWS_ENDPOINT_URL"] = ministack
    worker = command.start("worker", module)
    for name, data in ((event, '{"n": 1}'), (audit, '{"who": "ada"}'), (event, '{"n": 2}')):
        assert command("events", "publish", name, data).returncode == 0
    eventually(lambda: len(told(command, "moved")) == 2 and told(command, "direct"), 40)
    bad = command("events", "publish", event, '{"n": "x"}', "--module", module)
    assert bad.returncode == 1
    assert "breaks its model Signup" in bad.stderr
    assert command("events", "publish", event, '{"n": "x"}').returncode == 0  # here nobody knows the model
    dead = eventually(lambda: [x for x in [command("events", "dead", event).stdout] if "no dead" not in x], 20)[0]
    assert "breaks its model Signup" in dead
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def test_dev_starts_a_server_of_its_own(command: Command, module: str, event: str, audit: str) -> None:
    for name in [name for name in command.env if name.startswith("AWS_") and "FILE" not in name]:
        del command.env[name]
    alone = command("events", "list")
    assert alone.returncode == 1
    assert "start `fourlane dev`" in alone.stderr
    with (command.folder / "log").open("wb") as log:
        dev = command.start("dev", module, stderr=log)
    eventually(lambda: "moto's server at http://127.0.0.1:" in (command.folder / "log").read_text(), 30)
    eventually(lambda: command("events", "publish", event, '{"n": 1}').returncode == 0, 30)
    assert command("events", "publish", audit, "{}").returncode == 0
    eventually(lambda: told(command, "moved") and told(command, "direct"), 40)
    listed = command("events", "list").stdout
    assert "platform-events" in listed
    assert "audit-events" in listed
    dev.send_signal(signal.SIGINT)
    assert dev.wait(20) == 0
    assert "Traceback" not in (command.folder / "log").read_text()
    assert "start `fourlane dev`" in command("events", "list").stderr


def test_a_folder_that_another_user_holds_is_told(command: Command, module: str, event: str, tmp_path: Path) -> None:
    """The receivers wait, and not in silence; once it is free, they start."""
    taken = tmp_path / f"fourlane-{os.getuid()}"
    taken.mkdir(mode=0o777)
    command.env |= {"TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": ""}
    with (command.folder / "log").open("wb") as log:
        worker = command.start("worker", module, stderr=log)
    eventually(lambda: "waits: [Errno 13] others have a right to it" in (command.folder / "log").read_text(), 30)
    assert not receivers(worker)
    taken.rmdir()
    eventually(lambda: len(receivers(worker)) == 2, 30)
