"""Every mistake of a user: one clear line that says what to do, an exit code that is not 0, nothing lost."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from fourlane.embedded import EmbeddedRedis
from fourlane.queues.broker import RedisBroker
from tests.command import CALL, Command
from tests.command import command as command
from tests.conftest import StartServer
from tests.queues.conftest import Hand
from tests.servers import eventually, free_port

GOOD = """
import fourlane

@fourlane.task
def greet(name):
    with open("greeted", "a") as file:
        file.write(f"{name}\\n")
"""


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[Command]:
    """The command without REDIS_URL: it is given to each call, or the server is an embedded one."""
    made = Command(tmp_path)
    made.module("good", GOOD)
    yield made
    made.close()


def told(done: subprocess.CompletedProcess[str], *words: str, code: int = 1) -> None:
    """The last line tells it; nothing else is an error, and nothing is a traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    wrong = [line for line in lines if "error" in line.lower()]
    assert wrong, done.stderr
    for word in words:
        assert word in wrong[0], done.stderr
    assert done.stdout == ""


ALL = [
    ["queues"],
    ["doctor"],
    ["dead", "list"],
    ["jobs", "show", "x"],
    ["worker", "good"],
    ["dev", "good"],
    ["enqueue", "greet", "1", "--module", "good"],
]


# Redis ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", ALL, ids=lambda args: args[0])
def test_no_redis_at_the_address(offline: Command, args: list[str]) -> None:
    port = free_port()
    at_once = {"REDIS_URL": f"redis://127.0.0.1:{port}", "FOURLANE_START_WAIT_SECONDS": "0"}
    told(offline(*args, **at_once), f"127.0.0.1:{port}", "is the server running")


@pytest.mark.parametrize("args", [ALL[0], ALL[4], ALL[6]], ids=lambda args: args[0])
def test_a_wrong_password(offline: Command, start_server: StartServer, args: list[str]) -> None:
    server = start_server(password="right")
    done = offline(*args, REDIS_URL=server.url_for("", "wrong-guess"))
    told(done, "check the user and the password in REDIS_URL")
    assert "wrong-guess" not in done.stderr
    told(offline(*args, REDIS_URL=f"redis://127.0.0.1:{server.port}"), "password in REDIS_URL")


@pytest.mark.parametrize("url", ["redis://127.0.0.1:port", "redis://:se/cret@127.0.0.1:6379"])
def test_an_address_that_cannot_be_read(offline: Command, url: str) -> None:
    done = offline("queues", REDIS_URL=url)
    told(done, "REDIS_URL: ", "redis://USER:PASSWORD@HOST:PORT/0")
    assert "cret" not in done.stderr


def test_a_redis_that_evicts(offline: Command, start_server: StartServer) -> None:
    server = start_server(maxmemory="100mb", config={"maxmemory-policy": "allkeys-lru"})
    offline.env["REDIS_URL"] = server.url
    done = offline("doctor")
    assert done.returncode == 1
    assert "error  eviction" in done.stdout
    assert "set maxmemory-policy noeviction" in done.stdout
    worker = offline.start("worker", "good", stderr=subprocess.PIPE, text=True)
    said = until_ready(worker)
    assert "warning: maxmemory-policy of this Redis is allkeys-lru" in said
    end(worker)
    # A user who may not ask is not held up.
    server.command("ACL", "SETUSER", "worker", "on", ">secret", "~*", "+@all", "-info")
    worker = offline.start("worker", "good", stderr=subprocess.PIPE, text=True, url=server.url_for("worker", "secret"))
    assert "maxmemory-policy" not in until_ready(worker)
    end(worker)
    server.config("SET", "maxmemory-policy", "noeviction")
    worker = offline.start("worker", "good", stderr=subprocess.PIPE, text=True)
    assert "maxmemory-policy" not in until_ready(worker)
    end(worker)


# Modules and tasks ------------------------------------------------------------------------------------------

PLAIN = """
import good
import dramatiq

@dramatiq.actor(actor_name="greet")
async def other(name):
    pass
"""
MODULES = [
    # two of one name, in one module or in two, ours or dramatiq's
    (
        "import fourlane\n\n@fourlane.task(name='x')\ndef a(): pass\n\n@fourlane.task(name='x')\ndef b(): pass\n",
        ["two tasks are named 'x'", "bad.py, line 3", "bad.py, line 6"],
    ),
    (PLAIN, ["two tasks are named 'greet'", "good.py, line 4", "bad.py, line 5"]),
    ("import good\n\n1 / 0\n", ["ZeroDivisionError", "bad.py, line 3"]),
    ("import no_such_library\n", ["No module named 'no_such_library'", "bad.py, line 1"]),
    ("def (:\n", ["SyntaxError", "bad.py, line 1"]),
    ("raise SystemExit('use me otherwise')\n", ["SystemExit: use me otherwise"]),
    ("import fourlane\n\n@fourlane.task(tier='P9')\ndef a(): pass\n", ["'P9' is no tier", "bad.py, line 3"]),
]


@pytest.mark.parametrize(("text", "words"), MODULES, ids=lambda value: value[0] if isinstance(value, list) else "")
def test_a_module_that_cannot_be_imported(command: Command, text: str, words: list[str]) -> None:
    command.module("good", GOOD)
    command.module("bad", text)
    told(command("worker", "bad"), "module 'bad' cannot be imported", *words, code=78)
    told(command("enqueue", "greet", "--module", "bad"), "module 'bad' cannot be imported", *words)


def test_a_module_that_is_not_there(command: Command) -> None:
    for name in ("no_such_module", "no_such_package.tasks"):
        told(command("worker", name), "is it in this folder, or installed?", code=78)
        told(command("enqueue", "greet", "--module", name), "is it in this folder, or installed?")


def test_what_is_no_broker_is_not_served(command: Command) -> None:
    command.module("odd", "number = 42\n\nasync def make(): pass\n")
    for name in ("odd:number", "odd:make"):
        told(command("worker", name), f"'{name}' is neither a broker nor a plain function that sets one up", code=78)


def test_a_task_that_nobody_declares(command: Command) -> None:
    command.module("good", GOOD)
    told(command("enqueue", "great", "--module", "good"), "no task 'great'", "greet", "--module")


# What is typed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--kwargs", "name=Ada"], ["'--kwargs': is not JSON"]),
        (["--kwargs", "[]"], ["'--kwargs': is not a JSON object"]),
        (["--delay", "soon"], ["--delay"]),
        (["--delay", "nan"], ["--delay"]),
        (["--delay", "1e300"], ["--delay"]),
    ],
)
def test_arguments_that_do_not_parse(command: Command, args: list[str], words: list[str]) -> None:
    command.module("good", GOOD)
    told(command("enqueue", "greet", "--module", "good", *args), *words, code=2)
    assert "no queues yet" in command("queues").stdout


@pytest.mark.parametrize("text", ["02134", "1.", "{name}", "9" * 5_000, "12 Elm St"])
def test_what_is_no_json_is_text(command: Command, text: str) -> None:
    command.module("good", GOOD)
    job_id = command("enqueue", "greet", text, "--module", "good").stdout.strip()
    assert json.loads(command("jobs", "show", job_id, "--json").stdout)["args"] == [text]


def test_arguments_that_json_cannot_carry(command: Command) -> None:
    command.module("good", GOOD)
    told(command("enqueue", "greet", "--module", "good", "--kwargs", '{"name": [NaN]}'), "kwargs.name[0]")


NAMES = [
    (["queues", "pause", "defualt"], ["'defualt' was ever seen", "did you mean default"]),
    (["queues", "resume", "defualt"], ["did you mean default"]),
    (["queues", "purge", "defualt", "--yes"], ["did you mean default"]),
    (["limits", "set", "defualt", "--rate", "1"], ["did you mean default"]),
    (["limits", "clear", "defualt"], ["did you mean default"]),
    (["dead", "list", "--queue", "defualt"], ["did you mean default"]),
    (["dead", "export", "--queue", "defualt"], ["did you mean default"]),
    (["dead", "discard", "--queue", "defualt", "--yes"], ["did you mean default"]),
    (["queues", "pause", "nothing_like_it"], ["known: default"]),
    (["queues", "pause", "jobs.urgent.default"], ["'urgent' is no tier"]),
    (["queues", "pause", "staging.jobs.high.default"], ["belongs to the environment 'staging'"]),
    (["worker", "--queues", "a.b"], ["'a.b' is no queue name"]),
    (["worker", "--services", "a b"], ["'a b' is no service name"]),
    (["jobs", "show", "nope"], ["no job 'nope'"]),
    (["jobs", "cancel", "nope", "--yes"], ["no job 'nope'"]),
    (["dead", "show", "nope"], ["no dead letter 'nope'"]),
    (["dead", "replay", "nope"], ["no dead letter 'nope'"]),
    (["dead", "discard", "nope", "--yes"], ["no dead letter 'nope'"]),
    (["dead", "edit", "nope", "--args", "[]", "--yes"], ["no dead letter 'nope'"]),
]


def test_a_name_or_an_id_that_does_not_exist(command: Command) -> None:
    command.module("good", GOOD)
    assert command("enqueue", "greet", '"x"', "--module", "good").returncode == 0
    for args, words in NAMES:
        told(command(*args), *words)
    assert '"ready": 1' in command("queues", "--json", "--sample", "0").stdout
    assert command("limits", "--json").stdout == '{\n  "limits": {}\n}\n'


# The embedded server ----------------------------------------------------------------------------------------


def until_ready(process: subprocess.Popen[Any]) -> str:
    """What it said until it was ready."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if line.startswith("ready:"):
            return said
    raise AssertionError(said)


def end(process: subprocess.Popen[Any]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=40)


def dev(offline: Command) -> subprocess.Popen[Any]:
    process = offline.start("dev", "good", stderr=subprocess.PIPE, text=True)
    assert "embedded" in until_ready(process)
    return process


def greet(offline: Command, name: str) -> None:
    done = offline("enqueue", "greet", f'"{name}"', "--module", "good")
    assert done.returncode == 0, done.stderr


def greeted(offline: Command, *names: str) -> None:
    path = offline.folder / "greeted"
    eventually(lambda: path.exists() and set(path.read_text().split()) >= set(names))


def test_a_second_dev_in_the_same_folder(offline: Command) -> None:
    first = dev(offline)
    told(offline("dev", "good"), f"process {first.pid} already runs the embedded server", "another data folder")
    greet(offline, "Ada")  # the first goes on
    greeted(offline, "Ada")
    end(first)
    assert first.returncode == 0
    told(offline("queues"), "start `fourlane dev`")


def test_a_port_in_use_is_replaced_and_jobs_are_kept(offline: Command) -> None:
    data = offline.folder / ".fourlane"
    first = dev(offline)
    done = offline("enqueue", "greet", '"Ada"', "--module", "good", "--delay", "3600")
    job_id = done.stdout.strip()
    end(first)
    port = json.loads((data / "server.json").read_text())["port"]
    with socket.create_server(("127.0.0.1", port)):
        second = dev(offline)
        assert json.loads((data / "server.json").read_text())["port"] != port
        assert "delayed" in offline("jobs", "show", job_id).stdout
        end(second)


@pytest.mark.parametrize("what", ["a file in its place", "no right to write"])
def test_a_data_folder_that_cannot_be_used(offline: Command, what: str) -> None:
    if what == "a file in its place":
        (offline.folder / ".fourlane").write_text("")
        folder = ".fourlane"
    else:
        folder = "/proc/fourlane"
    told(offline("dev", "good", FOURLANE_DATA_DIR=folder), "cannot keep its data in", "or choose another")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("cannot mount a small disk here")
    yield disk
    # A server whose owner was just killed needs a moment.
    eventually(lambda: subprocess.run(["umount", str(disk)], check=False).returncode == 0, 10, interval=0.1)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return filler


def test_a_disk_that_is_full_at_the_start(small_disk: Path, offline: Command) -> None:
    filler = fill(small_disk)
    done = offline("dev", "good", FOURLANE_DATA_DIR=str(small_disk / "data"))
    told(done, "leave room on its disk")
    filler.unlink()


def test_a_disk_that_fills_up_loses_no_accepted_job(small_disk: Path, offline: Command) -> None:
    offline.env["FOURLANE_DATA_DIR"] = str(small_disk / "data")
    with (offline.folder / "log").open("w") as log:
        process = offline.start("dev", "good", stderr=log)
    eventually(lambda: "ready:" in (offline.folder / "log").read_text())
    kept = offline("enqueue", "greet", '"kept"', "--module", "good", "--delay", "3600").stdout.strip()
    filler = fill(small_disk)
    big = '"' + "x" * 100_000 + '"'

    def refused() -> subprocess.CompletedProcess[str] | None:
        done = offline("enqueue", "greet", big, "--module", "good", "--delay", "3600")
        return done if done.returncode else None

    done = eventually(refused, 30)
    assert done is not None
    told(done, "free space")
    filler.unlink()
    eventually(lambda: offline("enqueue", "greet", '"later"', "--module", "good").returncode == 0, 20)
    greeted(offline, "later")
    assert "delayed" in offline("jobs", "show", kept).stdout
    end(process)
    assert process.returncode == 0


def test_a_disk_that_fills_up_is_told(small_disk: Path, offline: Command) -> None:
    offline.env["FOURLANE_DATA_DIR"] = str(small_disk / "data")
    process = dev(offline)
    assert process.stderr is not None
    filler = fill(small_disk)
    url = EmbeddedRedis.open(small_disk / "data", attach=True).url
    with RedisBroker(url=url).client as client, contextlib.suppress(redis.ResponseError):  # it may know already
        client.set("big", "x" * 100_000)
    assert any("cannot write to" in line and "Make room on the disk" in line for line in process.stderr)
    filler.unlink()
    assert any("all is well again" in line for line in process.stderr)
    end(process)
    assert process.returncode == 0


def test_an_embedded_server_that_ends_ends_dev_and_keeps_its_jobs(offline: Command) -> None:
    process = dev(offline)
    done = offline("enqueue", "greet", '"kept"', "--module", "good", "--delay", "3600")
    server = EmbeddedRedis.open(offline.folder / ".fourlane", attach=True)
    # The kernel ends it when a file of it passes this size; no right is needed for that.
    pid = int((offline.folder / ".fourlane" / "server.pid").read_text())
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    with RedisBroker(url=server.url).client as client, pytest.raises(redis.ConnectionError):
        client.set("big", "x" * 200_000)
    assert process.stderr is not None
    said = process.stderr.read()
    assert process.wait(40) == 1
    assert "the embedded server has ended" in said
    assert "Start again: its data is kept" in said
    assert "Traceback" not in said
    again = dev(offline)
    assert "delayed" in offline("jobs", "show", done.stdout.strip()).stdout
    end(again)


def test_an_export_to_a_full_disk(small_disk: Path, command: Command, redis_url: str) -> None:
    broker = RedisBroker(url=redis_url, namespace=command.env["FOURLANE_NAMESPACE"])
    hand = Hand(broker.store)
    hand.kill(20)
    fill(small_disk)
    done = command("dead", "export", "-o", str(small_disk / "letters"))
    told(done, "cannot write", "No space left")
    hand.link.close()
    broker.close()


def test_a_failed_export_leaves_the_old_one(offline: Command) -> None:
    old = offline.folder / "letters"
    old.write_text("precious")
    done = offline("dead", "export", "-o", "letters", REDIS_URL=f"redis://127.0.0.1:{free_port()}")
    told(done, "is the server running")
    assert old.read_text() == "precious"


def test_servers_are_not_started_by_looking(offline: Command) -> None:
    told(offline("queues"), "REDIS_URL is not set", "start `fourlane dev`")
    assert not (offline.folder / ".fourlane").exists()


# What surrounds the program -------------------------------------------------------------------------------------


def test_settings_that_are_no_text(offline: Command) -> None:
    told(offline("worker", "good", FOURLANE_PROBE_HOST="\udcff"), "FOURLANE_PROBE_HOST: has bytes that are no UTF-8")


def test_a_file_of_settings_that_is_a_pipe(offline: Command) -> None:
    os.mkfifo(offline.folder / ".env.local")
    told(offline("config"), ".env.local: is no regular file")


@pytest.mark.parametrize("args", ["queues --help", "config --json", "config"])
def test_a_disk_that_is_full(offline: Command, args: str) -> None:
    with open("/dev/full", "w") as full:
        process = offline.start(*args.split(), stdout=full, stderr=subprocess.PIPE, text=True)
        said = process.communicate(timeout=30)[1]
    assert (process.returncode, said) == (1, "error: cannot write: No space left on device\n")


def test_the_folder_was_removed(offline: Command, redis_url: str) -> None:
    gone = offline.folder / "gone"
    gone.mkdir()
    call = [*CALL, "worker", "good"]
    remove = 'rmdir ../gone && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", remove, "sh", *call], cwd=gone, env=offline.env | {"REDIS_URL": redis_url}, capture_output=True,
        text=True, timeout=45,
    )  # fmt: skip
    told(done, "the folder that this runs in was removed")


def test_a_function_of_the_task_that_fails(command: Command) -> None:
    command.module(
        "lined", "import fourlane\n\n@fourlane.task(lines=lambda args, kwargs, options: 1 / 0)\ndef a(): pass\n"
    )
    said = command("enqueue", "a", "--module", "lined").stderr
    assert said.startswith("error: no job was made: the code of a failed (")
    assert "lined.py, line 3)" in said.splitlines()[0]
    assert "ZeroDivisionError" in said
