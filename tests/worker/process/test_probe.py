"""The probe: what it answers whatever the jobs and Redis do, and under clients that mean no good."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fourlane.queues.redis import Connector, client_of
from fourlane.queues.store import Store
from fourlane.readable import readable
from fourlane.worker.process.child import Child
from fourlane.worker.process.health import Health
from fourlane.worker.process.options import Options
from fourlane.worker.process.probe import Page, Probe
from fourlane.worker.process.supervisor import Supervisor
from tests.servers import Server, free_port
from tests.workers import Workers, ask, eventually


@pytest.fixture
def probe() -> Iterator[Probe]:
    opened = Probe(0, lambda: Health(True, True, {}), host="127.0.0.1")
    yield opened
    opened.close()


def live(probe: Probe, host: str = "127.0.0.1") -> bool:
    with urllib.request.urlopen(f"http://{host}:{probe.port}/live", timeout=5) as reply:
        return bool(json.load(reply)["live"])


def raw(probe: Probe, request: str) -> tuple[list[bytes], bytes]:
    """Head and body of a reply, as they come."""
    with socket.create_connection(("127.0.0.1", probe.port), timeout=5) as connection:
        connection.sendall(f"{request} HTTP/1.0\r\n\r\n".encode())
        head, _, body = b"".join(iter(lambda: connection.recv(4096), b"")).partition(b"\r\n\r\n")
    return [line for line in head.split(b"\r\n") if not line.startswith(b"Date:")], body


@pytest.mark.parametrize("path", ["/live", "/ready?of=it", "/metrics", "/nothing"])
def test_head_is_get_without_the_body(path: str) -> None:
    pages = {"/metrics": lambda accept: Page(200, "text/plain", b"jobs 1\n")}
    probe = Probe(0, lambda: Health(True, False, {}), host="127.0.0.1", pages=pages)
    try:
        head, body = raw(probe, f"GET {path}")
        assert body
        assert raw(probe, f"HEAD {path}") == (head, b"")
    finally:
        probe.close()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /live", b"200 OK"),
        ("GET http://h/live", b"404 Not Found"),
        ("POST /live", b"501 Not Implemented"),
        ("GET /li ve", b"400 Bad Request"),
        ("GET /" + "a" * 9_000, b"431 Request Header Fields Too Large"),
        ("GET /live HTTP/1.1\r\n" + "a: b\r\n" * 101 + "c:", b"431 Request Header Fields Too Large"),
    ],
)
def test_what_is_asked_otherwise(probe: Probe, request_line: str, status: bytes) -> None:
    head, _ = raw(probe, request_line)
    assert head[0] == b"HTTP/1.0 " + status


def test_connections_that_are_only_held_keep_nobody_out(probe: Probe) -> None:
    before = threading.active_count()
    with ExitStack() as held:
        for number in range(100):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", probe.port), timeout=5))
            connection.sendall(b"GET /live HT" if number % 2 else b"")
            assert threading.active_count() <= before + 20
        assert [live(probe) for _ in range(5)] == [True] * 5
    assert live(probe)


def test_a_request_that_drips_has_ten_seconds_in_all(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fourlane.worker.process.probe._WHOLE_SECONDS", 0.5)
    before = threading.active_count()
    with socket.create_connection(("127.0.0.1", probe.port), timeout=5) as drips:
        drips.sendall(b"GET /live HT")
        began = time.monotonic()
        while not readable([drips.fileno()], 0.05):
            drips.sendall(b"T")
        assert drips.recv(100) == b""
        assert time.monotonic() - began < 3
    eventually(lambda: threading.active_count() <= before)


def test_connections_that_are_reset_keep_no_place(probe: Probe) -> None:
    for _ in range(50):
        connection = socket.create_connection(("127.0.0.1", probe.port), timeout=5)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    assert live(probe)


@pytest.mark.parametrize(("host", "others"), [("127.0.0.1", False), ("0.0.0.0", True), ("", True)])
def test_it_listens_where_it_is_told(host: str, others: bool) -> None:
    probe = Probe(0, lambda: Health(True, True, {}), host=host)
    try:
        assert live(probe)
        if others:
            assert live(probe, "127.0.0.2")
        else:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.2", probe.port), timeout=5)
    finally:
        probe.close()


def test_the_probe_answers_whatever_user_code_does(workers: Workers) -> None:
    port = free_port()
    process = workers.start("--processes", "2", "--slots", "1", FOURLANE_PROBE_PORT=str(port))
    for path in ("live", "ready"):
        code, told = ask(port, path)
        assert (code, told[path]) == (200, True)
    assert {p["pid"] for p in told["processes"]} == workers.children(process)
    assert ask(port, "else")[0] == 404
    with pytest.raises(ConnectionRefusedError):  # in the environment local, on 127.0.0.1 alone
        socket.create_connection(("127.0.0.2", port), timeout=5)
    for name in "ab":
        workers.send("seize", name, 3)
    eventually(lambda: workers.said("begun", "a") and workers.said("begun", "b"))
    began = time.monotonic()
    assert ask(port, "live")[0] == ask(port, "ready")[0] == 200
    assert time.monotonic() - began < 2.5
    for name in "hi":
        workers.send("hold", name)
    eventually(lambda: workers.said("begun", "h") and workers.said("begun", "i"))
    process.terminate()
    workers.wait_for(process, "stopping:")
    eventually(lambda: ask(port, "ready")[0] == 503)
    assert ask(port, "live")[0] == 200
    assert len(workers.children(process)) == 2  # so it is not for a missing process
    for name in "hi":
        workers.open_gate(name)
    assert process.wait(30) == 0


def test_a_flood_at_its_port_harms_neither_probe_nor_supervisor(workers: Workers) -> None:
    """More connections than it may have descriptors, some half open; meanwhile a process dies."""
    port = free_port()
    supervisor = workers.start("--processes", "2", FOURLANE_PROBE_PORT=str(port), FOURLANE_METRICS="true")
    [first, _] = sorted(workers.children(supervisor))
    usual = resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, (200, usual[1]))
    threads = Path(f"/proc/{supervisor.pid}/task")
    with ExitStack() as held:
        for number in range(400):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            connection.sendall(b"GET /metrics HT" if number % 2 else b"")
        assert len(list(threads.iterdir())) < 60
        os.kill(first, signal.SIGKILL)
        eventually(lambda: first not in workers.children(supervisor) and len(workers.children(supervisor)) == 2)
        eventually(lambda: ask(port, "ready")[0] == 200)
        began = time.monotonic()
        assert all(ask(port, "live")[0] == 200 for _ in range(5))
        assert time.monotonic() - began < 5
    assert "Traceback" not in workers.log(supervisor)


def test_without_a_descriptor_left_the_supervisor_lives_on(workers: Workers) -> None:
    """It has none for a probe's connection, for Redis or for a process in the place of one that died."""
    port = free_port()
    supervisor = workers.start("--scheduler", FOURLANE_PROBE_PORT=str(port), FOURLANE_METRICS="true")
    [process] = workers.children(supervisor)
    workers.send("hold", "held")
    eventually(lambda: workers.said("begun", "held"))
    usual = resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, (3, usual[1]))
    with ExitStack() as held:
        for _ in range(30):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            connection.sendall(b"GET /live HTTP/1.0\r\n\r\n")
        os.kill(process, signal.SIGKILL)
        eventually(lambda: workers.log(supervisor).count("process 0 cannot be started") >= 2)
        spent = cpu_seconds(supervisor.pid)
        time.sleep(1)
        assert cpu_seconds(supervisor.pid) - spent < 0.5, "it does not try without a pause"
    assert supervisor.poll() is None
    resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, usual)
    workers.open_gate("held")
    eventually(lambda: workers.is_done("held"), 30)
    eventually(lambda: ask(port, "ready")[0] == 200)
    assert "Traceback" not in workers.log(supervisor)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_probe_answers_while_redis_does_not(redis_server: Server, namespace: str, tmp_path: Path) -> None:
    workers = Workers(redis_server.url, namespace, tmp_path)
    port = free_port()
    try:
        workers.start(FOURLANE_PROBE_PORT=str(port))
        workers.send("hold", "h")
        eventually(lambda: workers.said("begun", "h"))
        redis_server.pause()
        for _ in range(40):  # meanwhile the supervisor waits for the answer to a beat
            began = time.monotonic()
            assert ask(port, "live")[0] == 200
            assert time.monotonic() - began < 1.5
            time.sleep(0.1)
        redis_server.resume()
        workers.open_gate("h")
        eventually(lambda: workers.is_done("h"))
        assert ask(port, "ready")[0] == 200
    finally:
        redis_server.resume()
        workers.close()


def test_a_process_without_a_good_turn_is_not_ready(redis_url: str) -> None:
    connector = Connector(client_of(redis_url))
    supervisor = Supervisor(Store(connector), Options())
    child = Child(0, Options())
    try:
        supervisor.children.append(child)
        assert not supervisor.health().ready  # it starts
        child.table.publish(time.monotonic() - 40, 0, 0)
        assert supervisor.health().ready
        child.table.publish(time.monotonic() - 50, 0, 0)
        assert not supervisor.health().ready
        assert supervisor.health().live
    finally:
        child.process.kill()
        child.process.wait(10)
        child.close()
        connector.close()


def test_the_probe_answers_while_a_start_waits_for_redis(workers: Workers, redis_server: Server) -> None:
    port = free_port()
    redis_server.stop()
    process = workers.start(until="trying again", REDIS_URL=redis_server.url, FOURLANE_PROBE_PORT=str(port))
    code, told = ask(port, "live")
    assert (code, told["live"]) == (200, True)
    for path in ("ready", "health", "health/cache", "metrics"):
        code, told = ask(port, path)
        assert code == 503
        assert f"127.0.0.1:{redis_server.port}" in told["starting"]
    redis_server.start()
    eventually(lambda: ask(port, "ready")[0] == 200)
    assert "starting" not in ask(port, "live")[1]
    process.terminate()
    assert process.wait(30) == 0


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_a_probe_host_that_is_not_this_machines(workers: Workers, host: str) -> None:
    process = workers.start(FOURLANE_PROBE_PORT=str(free_port()), FOURLANE_PROBE_HOST=host)
    assert process.wait(30) == 78
    (line,) = [line for line in workers.log(process).splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: FOURLANE_PROBE_HOST: cannot listen on {host}, port ")


def test_a_probe_port_in_use(workers: Workers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = workers.start(FOURLANE_PROBE_PORT=str(port))
        assert process.wait(30) == 78
    (line,) = [line for line in workers.log(process).splitlines() if "PROBE_PORT" in line]
    assert line == f"error: FOURLANE_PROBE_PORT: cannot listen on port {port} (Address already in use); choose another"
    assert "Traceback" not in workers.log(process)
