"""Redis fails over, loads, is full, demands TLS or rights: the worker goes on by itself, and nothing is lost."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import dramatiq
import dramatiq.broker
import pytest
import redis

import fourlane
from fourlane.errors import RedisUnavailable, ResultTimeout
from fourlane.job import State
from fourlane.queues import control, dead_letters, rights
from fourlane.queues.broker import RedisBroker
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.turn import Ask
from tests.command import Command
from tests.command import command as command
from tests.conftest import StartServer
from tests.proxy import FaultyProxy
from tests.servers import Server
from tests.worker.conftest import RunWorker, run_worker
from tests.workers import eventually

__all__ = ["run_worker"]

OpenBroker = Callable[[str], RedisBroker]


@pytest.fixture
def open_broker() -> Iterator[OpenBroker]:
    """Opens brokers by URL; the last one is dramatiq's global one until the test ends."""
    before = dramatiq.broker.global_broker
    with ExitStack() as stack:

        def open_(url: str) -> RedisBroker:
            broker = RedisBroker(url=url)
            stack.callback(broker.close)
            dramatiq.set_broker(broker)
            return broker

        yield open_
    dramatiq.broker.global_broker = before


def run_cli(folder: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(fourlane.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", "from fourlane.cli import main; main()", *words],
        cwd=folder,
        env=os.environ | {"REDIS_URL": url, "PYTHONPATH": source},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def is_settled(broker: RedisBroker) -> bool:
    return bool(broker.client.hlen(broker.store.service("default").jobs) == 0)


# TLS --------------------------------------------------------------------------------------------------------


def test_tls(start_server: StartServer, open_broker: OpenBroker, run_worker: RunWorker, tmp_path: Path) -> None:
    server = start_server(tls=True, password="s3cret")
    broker = open_broker(server.url)

    @fourlane.task(result_ttl_ms=60_000)
    def add(a: int, b: int) -> int:
        return a + b

    run_worker(broker)
    assert add.send(1, 2).result(5) == 3
    assert add.send_with_options(args=[2, 3], delay=50).result(5) == 5
    shown = run_cli(tmp_path, server.url, "queues")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "local.jobs.normal.default" in shown.stdout
    unchecked = Connector(client_of(server.url.partition("?")[0] + "?ssl_cert_reqs=CERT_NONE"))
    assert unchecked.command(b"key", "PING") == b"PONG"
    unchecked.close()


def faults(told: subprocess.CompletedProcess[str]) -> list[str]:
    """What it told besides which Redis it asks."""
    return [line for line in told.stderr.splitlines() if not line.startswith("redis: ")]


@pytest.mark.parametrize("words", [["queues"], ["worker"]])
def test_tls_with_a_wrong_ca_is_one_clear_line(start_server: StartServer, tmp_path: Path, words: list[str]) -> None:
    server, other = start_server(tls=True), start_server(tls=True)
    told = run_cli(tmp_path, server.url.replace(str(server.ca), str(other.ca)), *words)
    assert told.returncode == 1
    assert len(faults(told)) == 1
    assert "CERTIFICATE_VERIFY_FAILED" in told.stderr
    assert "ssl_ca_certs" in told.stderr


def test_tls_with_a_missing_ca_is_one_clear_line(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(tls=True)
    told = run_cli(tmp_path, server.url.replace("tls.crt", "none.crt"), "queues")
    assert told.returncode == 1
    assert len(faults(told)) == 1
    assert "does not exist: ssl_ca_certs" in told.stderr


# Rights -----------------------------------------------------------------------------------------------------


def documented_rights() -> list[str]:
    """The words of the ACL line in docs/operating.md."""
    text = (Path(__file__).parents[3] / "docs" / "operating.md").read_text()
    (line,) = re.findall(r"^ACL SETUSER (fourlane .*?)^```", text, re.MULTILINE | re.DOTALL)
    return line.replace("\\\n", " ").split()


def limited_user(server: Server, *changes: str) -> str:
    """The URL of the documented user, with changes."""
    words = [word.replace("PASSWORD", "s3cret").replace("production:", "local:") for word in documented_rights()]
    server.command("ACL", "SETUSER", *words, *changes)
    return server.url_for("fourlane", "s3cret")


def test_the_documented_rights_are_those_that_the_code_needs() -> None:
    documented = {word[1:] for word in documented_rights() if word.startswith("+")}
    assert documented == rights.NEEDED
    folder = Path(fourlane.__file__).parent / "queues" / "lua"
    scripts = "".join(path.read_text() for path in folder.rglob("*.lua"))
    called = {name.lower() for name in re.findall(r"(?:call|all)\(?,? ?'([A-Z]+)'", scripts)}
    assert len(called) > 30
    assert called <= rights.NEEDED


SPARED = {"auth", "hello", "select", "client", "config", "info", "scan", "type"}
"""What each user may at the begin of a connection, and what is better with, says docs/operating.md."""
NOT_ASKED = {"DEBUG", "KEYS", "OBJECT", "POST", "QUIT", "READONLY", "UNSUBSCRIBE", "WATCH"}
"""Words that are commands too, and of something else here: levels of logs, HTTP, texts, answers of Redis, columns."""


def test_the_documented_rights_are_for_all_commands_that_the_code_names(redis_server: Server) -> None:
    with redis_server.client() as client:
        known = {name.upper() for name in client.command()}
    named = {
        (node.value.lower(), path.name)
        for path in Path(fourlane.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in known - NOT_ASKED
    }
    assert ("blmove", "results.py") in named, "they are seen"
    assert sorted(pair for pair in named if pair[0] not in rights.NEEDED | SPARED) == []


def test_the_documented_rights_are_enough(
    redis_server: Server, open_broker: OpenBroker, run_worker: RunWorker, tmp_path: Path
) -> None:
    url = limited_user(redis_server)
    broker = open_broker(url)
    store = broker.store
    gate, ran = threading.Event(), []

    @fourlane.task(result_ttl_ms=60_000)
    def add(a: int, b: int) -> int:
        return a + b

    @fourlane.task(max_retries=1, min_backoff=10, max_backoff=20)
    def fail() -> None:
        ran.append("fail")
        raise RuntimeError("each time")

    @fourlane.task(tier="low")
    def hold() -> None:
        ran.append("hold")
        gate.wait(10)

    assert add.send(1, 2).status() is State.READY
    run_worker(broker)
    assert add.send(1, 2).result(5) == 3
    assert add.send_with_options(args=[2, 3], delay=50).result(5) == 5
    add.send_many([[1, 2]] * 3)
    assert add.send_with_options(args=[2, 3], delay=60_000).cancel() is State.DELAYED
    dead = fail.send()
    eventually(lambda: dead.status() is State.DEAD)
    assert dead.progress() is None
    assert dead.log_lines() == list(dead.stream()) == []
    waited = add.send_with_options(args=[1, 2], delay=60_000)
    with pytest.raises(ResultTimeout):
        waited.result(0.5)
    low = hold.send()
    eventually(lambda: "hold" in ran)
    assert low.cancel() is State.RUNNING
    assert control.set_limit(store, low.queue, rate=100, concurrency=1)
    hold.send_many([[], []])
    gate.set()
    eventually(lambda: ran.count("hold") == 3)
    assert dead_letters.replay(store, [dead.id]) == 1
    eventually(lambda: ran.count("fail") == 4)
    eventually(lambda: dead.status() is State.DEAD)
    assert list(dead_letters.export(store))
    assert dead_letters.find(store).letters
    assert dead_letters.discard(store, dead_letters.Filter()) == 1
    assert len(dead_letters.audit(store)) == 2
    assert control.clear(store, low.queue)
    assert control.pause(store, low.queue)
    hold.send()
    assert control.purge(store, low.queue) == 1
    for words in (["queues"], ["workers"], ["jobs", "show", dead.id], ["limits", "show"]):
        told = run_cli(tmp_path, url, *words)
        assert "permission" not in told.stderr.lower()
    told = run_cli(tmp_path, url, "doctor")
    assert told.returncode == 0, told.stdout
    assert told.stderr == ""
    # What doctor tries, and redis-py at each connection, may be refused; nothing else is.
    spared = {"client", "info", "config", "config|get", "scan"}
    spared |= {f"client|{word}" for word in ("setinfo", "maint_notifications", "id", "list", "setname", "tracking")}
    with redis_server.client() as client:
        assert {entry["object"] for entry in client.acl_log()} <= spared


@pytest.mark.parametrize("lacking", ["sadd", "lpush", "bzpopmin", "evalsha"])
def test_a_user_that_lacks_a_right_starts_no_worker(redis_server: Server, tmp_path: Path, lacking: str) -> None:
    told = run_cli(tmp_path, limited_user(redis_server, f"-{lacking}"), "worker")
    assert told.returncode == 1
    assert len(faults(told)) == 1
    assert f"this user may not run {lacking} on keys fourlane:{{local:* and fourlane:local:*" in told.stderr


def test_a_user_of_other_keys_starts_no_worker(redis_server: Server, tmp_path: Path) -> None:
    told = run_cli(tmp_path, limited_user(redis_server, "resetkeys", "~other:*"), "worker")
    assert told.returncode == 1
    assert len(faults(told)) == 1
    assert "on keys fourlane:{local:* and fourlane:local:*" in told.stderr


def test_the_documented_user_is_of_one_environment(redis_server: Server) -> None:
    """Beside those of its own environment it has no keys, whatever else shares the server."""
    url = limited_user(redis_server)
    for key in ("fourlane:{production:mail}:jobs", "fourlane:production:services", "other:{local:mail}:jobs"):
        with redis.Redis.from_url(url) as client, pytest.raises(redis.exceptions.NoPermissionError):
            client.hgetall(key)
    with redis.Redis.from_url(url) as client:
        assert client.hgetall("fourlane:{local:mail}:jobs") == client.hgetall("fourlane:local:services") == {}


def test_rights_taken_from_a_running_worker_lose_nothing(
    redis_server: Server, open_broker: OpenBroker, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    broker = open_broker(limited_user(redis_server))
    producer = RedisBroker(url=redis_server.url)
    ran: list[int] = []

    def note(number: int) -> None:
        ran.append(number)

    noted = fourlane.task(name="note", broker=broker)(note)
    sent = fourlane.task(name="note", broker=producer)(note)
    loop = run_worker(broker)
    noted.send(0)
    eventually(lambda: ran == [0] and is_settled(producer))
    for lacking in ("sadd", "hmget", "lpop", "zadd", "evalsha"):
        redis_server.command("ACL", "SETUSER", "fourlane", f"-{lacking}")
        before, failures = len(ran), loop.recovery.failures
        sent.send_many([[number] for number in range(before, before + 5)])
        eventually(lambda failures=failures: loop.recovery.failures > failures)  # type: ignore[misc]
        redis_server.command("ACL", "SETUSER", "fourlane", f"+{lacking}")
        eventually(lambda before=before: set(ran) == set(range(before + 5)))  # type: ignore[misc]
    assert "the user's rights" in caplog.text
    eventually(lambda: is_settled(producer))
    producer.close()


# Failover ---------------------------------------------------------------------------------------------------


def link_is_up(replica: Server) -> bool:
    return replica.info("replication").get("master_link_status") == "up"


def test_a_failover_loses_nothing(
    start_server: StartServer, open_broker: OpenBroker, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """The old primary becomes a replica first, as in a planned failover; then its address leads to the new one."""
    old, new = start_server(), start_server()
    new.command("REPLICAOF", "127.0.0.1", old.port)
    eventually(lambda: link_is_up(new))
    with FaultyProxy("127.0.0.1", old.port) as proxy:
        broker = open_broker(proxy.url(old.url))
        ran: list[int] = []
        some = threading.Event()

        @fourlane.task
        def note(number: int) -> None:
            time.sleep(0.005)  # the work
            ran.append(number)
            if len(ran) >= 50:
                some.set()

        note.send_many([[number] for number in range(300)])
        loop = run_worker(broker, slots=2)
        assert some.wait(30)
        with old.client() as client:
            client.execute_command("CLIENT", "PAUSE", 10_000, "WRITE")
            at = int(client.info("replication")["master_repl_offset"])
            eventually(lambda: int(new.info("replication")["slave_repl_offset"]) >= at)
            new.command("REPLICAOF", "NO", "ONE")
            client.execute_command("REPLICAOF", "127.0.0.1", new.port)
            client.execute_command("CLIENT", "UNPAUSE")
        eventually(lambda: loop.recovery.failures >= 2)
        assert len(ran) < 300
        with pytest.raises(RedisUnavailable, match="this server is a replica"):
            note.send(-1)
        proxy.retarget(new.port)
        note.send(300)  # no connection had to break for it: READONLY ends one
        eventually(lambda: set(ran) == set(range(301)))
        eventually(lambda: is_settled(broker))
        assert "blocked for" not in caplog.text


def test_a_server_that_is_a_replica_for_a_while(
    start_server: StartServer, open_broker: OpenBroker, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker waits in BZPOPMIN when the roles change, and goes on when they change back."""
    mine, other = start_server(), start_server()
    broker = open_broker(mine.url)
    ran: list[int] = []

    @fourlane.task
    def note(number: int) -> None:
        ran.append(number)

    loop = run_worker(broker)
    note.send(0)
    eventually(lambda: ran == [0] and is_settled(broker))
    note.send_with_options(args=[1], delay=1_500)
    other.command("REPLICAOF", "127.0.0.1", mine.port)
    eventually(lambda: link_is_up(other))
    other.command("REPLICAOF", "NO", "ONE")
    mine.command("REPLICAOF", "127.0.0.1", other.port)
    eventually(lambda: loop.recovery.failures >= 3)
    assert "this server is a replica" in caplog.text or "UNBLOCKED" in caplog.text
    mine.command("REPLICAOF", "NO", "ONE")
    eventually(lambda: ran == [0, 1])
    note.send(2)
    eventually(lambda: ran == [0, 1, 2])
    assert "blocked for" not in caplog.text


# Loading ----------------------------------------------------------------------------------------------------


def test_a_server_that_loads_its_data(
    start_server: StartServer, open_broker: OpenBroker, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    slow = {"key-load-delay": "8000", "loading-process-events-interval-bytes": "1024"}
    server = start_server(config=slow)
    broker = open_broker(server.url)
    ran: list[int] = []

    @fourlane.task
    def note(number: int) -> None:
        ran.append(number)

    loop = run_worker(broker)
    note.send(0)
    eventually(lambda: ran == [0])
    note.send_with_options(args=[1], delay=500)
    with server.client() as client:
        client.mset({f"other:{number}": "x" * 200 for number in range(1_000)})  # eight seconds of loading
        client.execute_command("BGREWRITEAOF")
        eventually(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
    server.kill()
    starting = threading.Thread(target=server.start)
    starting.start()
    try:
        refused = eventually(lambda: _refusal(note))
        assert "Redis is loading its data" in refused
        before = loop.recovery.failures
        eventually(lambda: loop.recovery.failures > before)
    finally:
        starting.join(20)
    eventually(lambda: ran == [0, 1])
    note.send(2)
    eventually(lambda: ran == [0, 1, 2])
    assert "blocked for" not in caplog.text


def _refusal(note: fourlane.Task[[int], None]) -> str:
    """What an enqueue is told while the server loads; "" when it is not there yet."""
    try:
        note.send(-1)
    except RedisUnavailable as error:
        return str(error) if "loading" in str(error) else ""
    raise AssertionError("it has loaded already")


def test_a_server_that_is_busy_with_a_script(
    redis_server: Server, open_broker: OpenBroker, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.config("SET", "busy-reply-threshold", 20)
    broker = open_broker(redis_server.url)
    ran: list[int] = []

    @fourlane.task
    def note(number: int) -> None:
        ran.append(number)

    loop = run_worker(broker)
    note.send(0)
    eventually(lambda: ran == [0] and is_settled(broker))
    note.send_with_options(args=[1], delay=200)

    def block() -> None:
        with redis_server.client() as client, pytest.raises(redis.exceptions.ResponseError, match="killed"):
            client.eval("while true do end", 0)

    blocking = threading.Thread(target=block)
    blocking.start()
    try:
        eventually(lambda: loop.recovery.failures >= 2)
        with pytest.raises(RedisUnavailable, match="script of somebody"):
            note.send(-1)
    finally:
        redis_server.command("SCRIPT", "KILL")
        blocking.join(10)
    note.send(2)
    eventually(lambda: sorted(ran) == [0, 1, 2])
    assert "blocked for" not in caplog.text


# Out of memory ----------------------------------------------------------------------------------------------


def fill(server: Server) -> None:
    """Write until the server refuses, then take some of its room: a few bytes more will not do."""
    with server.client() as client:
        for number in range(1_000):
            try:
                client.set(f"other:{number}", "x" * 200_000)
            except redis.exceptions.OutOfMemoryError:
                break
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) // 2)  # its own buffers come and go


def empty(server: Server) -> None:
    with server.client() as client:
        client.delete(*client.scan_iter("other:*", count=1_000))


def test_a_full_server_refuses_jobs_and_settles_those_it_has(
    start_server: StartServer, open_broker: OpenBroker, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server(maxmemory="12mb")
    broker = open_broker(server.url)
    gate, begun, ran = threading.Event(), threading.Semaphore(0), []

    def wait(name: str) -> None:
        begun.release()
        assert gate.wait(20)
        ran.append(name)

    @fourlane.task(result_ttl_ms=60_000)
    def end_well() -> str:
        wait("well")
        return "well"

    @fourlane.task(max_retries=1, min_backoff=10, max_backoff=20)
    def fail_once() -> None:
        if "once" not in ran:
            wait("once")
            raise RuntimeError("the first time")
        ran.append("twice")

    @fourlane.task(max_retries=0)
    def fail() -> None:
        wait("dead")
        raise RuntimeError("for good")

    @fourlane.task
    def note(name: str) -> None:
        ran.append(name)

    @fourlane.task(tier="low")
    def low() -> None:
        ran.append("low")

    well, dead = end_well.send(), fail.send()
    fail_once.send()
    loop = run_worker(broker, slots=4)
    for _ in range(3):
        assert begun.acquire(timeout=5)
    note.send_with_options(args=["delayed"], delay=500)
    control.pause(broker.store, "local.jobs.low.default")
    low.send()
    fill(server)

    for enqueue in (
        lambda: note.send("refused"),
        lambda: note.send_many([["refused"]] * 3),
        lambda: note.send_with_options(args=["refused"], delay=10),
    ):
        with pytest.raises(RedisUnavailable, match="out of memory"):
            enqueue()

    # Its leases live on, though the beat writes.
    workers = broker.store.service("default").workers
    until = broker.client.zscore(workers, loop.services[0].lease_name)
    eventually(lambda: broker.client.zscore(workers, loop.services[0].lease_name) > until)
    link = broker.store.connector.open(workers)
    told = broker.store.beat(link, "default", [loop.services[0].lease_name], 5_000)
    assert (told.lost, told.cancelled) == ([], [])
    link.close()
    gate.set()
    eventually(lambda: {"once", "twice", "well", "dead", "delayed"} == set(ran))
    assert well.result(5) == "well"
    eventually(lambda: dead.status() is State.DEAD)
    # An operator can act, and make room.
    assert control.resume(broker.store, "local.jobs.low.default")
    eventually(lambda: "low" in ran)
    assert dead_letters.discard(broker.store, [dead.id]) == 1
    with pytest.raises(RedisUnavailable, match="out of memory"):
        note.send("refused")
    assert "trying again" not in caplog.text
    assert "blocked for" not in caplog.text

    empty(server)
    note.send("later")
    eventually(lambda: "later" in ran)
    eventually(lambda: broker.client.hlen(broker.store.service("default").jobs) == 0)
    assert "refused" not in ran


def test_a_dead_workers_jobs_come_back_from_a_full_server(
    start_server: StartServer, open_broker: OpenBroker, run_worker: RunWorker
) -> None:
    server = start_server(maxmemory="12mb")
    broker = open_broker(server.url)
    ran: list[int] = []

    @fourlane.task
    def note(number: int) -> None:
        ran.append(number)

    note.send_many([[number] for number in range(10)])
    store = broker.store
    link = store.connector.open(store.keys.services)
    ask = Ask(10, "0123", beat=True, silence_ms=300, idle_silence_ms=300)
    assert len(store.turn(link, "default", "dead.0", ask).jobs) == 10
    link.close()
    fill(server)
    run_worker(broker)
    eventually(lambda: sorted(ran) == list(range(10)))
    eventually(lambda: is_settled(broker))


def test_a_worker_that_starts_waits_for_a_redis_that_is_away_or_loads(
    command: Command, start_server: StartServer
) -> None:
    # Slow to load, as one with much data is; the second line lets it answer meanwhile.
    slow = {"key-load-delay": "1000", "loading-process-events-interval-bytes": "1024"}
    server = start_server(config=slow)
    server.command("EVAL", "for i = 1, 1500 do redis.call('SET', 'k' .. i, string.rep('x', 100)) end", 0)
    server.command("BGREWRITEAOF")
    eventually(lambda: server.info("persistence")["aof_rewrite_in_progress"] == "0")
    server.stop()
    log = command.folder / "log"
    with log.open("wb") as out:
        worker = command.start("worker", url=server.url, stderr=out)
    eventually(lambda: "; trying again" in log.read_text())
    for early in (signal.SIGHUP, signal.SIGUSR1):
        worker.send_signal(early)
        eventually(lambda early=early: f"{early.name}: this worker is still starting; ignored\n" in log.read_text())  # type: ignore[misc]
    server.start()
    eventually(lambda: "ready: " in log.read_text(), 20)
    worker.terminate()
    assert worker.wait(20) == 0

    server.stop()
    told = command("worker", REDIS_URL=server.url, FOURLANE_START_WAIT_SECONDS="1")
    assert told.returncode == 1
    assert "is the server running" in told.stderr
    with log.open("wb") as out:
        worker = command.start("worker", url=server.url, stderr=out)
    eventually(lambda: "; trying again" in log.read_text())
    worker.terminate()
    assert worker.wait(20) == 0
