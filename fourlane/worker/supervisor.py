"""Starts worker processes, beats for them, restarts, recycles and kills them, and answers with a true exit code.

It imports nothing of the user's, so that a reload reads new code, and user code cannot stop its beat.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

import fourlane
from fourlane.errors import RedisUnavailable
from fourlane.queues.connection import Link
from fourlane.queues.store import Store
from fourlane.worker.process import CANNOT_START, Spec, Told
from fourlane.worker.table import Table

if TYPE_CHECKING:
    from fourlane.scheduler.ticker import Scheduler

__all__ = ["Options", "Supervisor"]

log = logging.getLogger("fourlane.supervisor")

SILENCE_MS: Final = 5_000
_BEAT_SECONDS: Final = 1.5
_PRESENCE_SECONDS: Final = 30.0
_STABLE_SECONDS: Final = 10.0
_LONGEST_PAUSE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """What to run. The recycling limits are off at 0."""

    modules: list[str] = field(default_factory=list)
    queues: list[str] = field(default_factory=list)
    services: list[str] = field(default_factory=list)
    processes: int = 1
    slots: int = 8
    concurrency: int = 1000
    grace_seconds: float = 25.0
    log_jobs: bool = False
    log_level: str = "INFO"
    recycle_jobs: int = 0
    recycle_seconds: int = 0
    recycle_rss_mb: int = 0
    watch: Path | None = None
    scheduler: bool = False
    boot_ms: int = 0
    """When this deploy began, by Redis's clock: the youngest deploy's schedules count."""


class Child:
    """One worker process."""

    def __init__(self, number: int, options: Options) -> None:
        self.number = number
        self.table = Table.create(options.slots + options.concurrency)
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.started_at = time.monotonic()
        self.stopping_since: float | None = None
        self.replace = True
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fourlane.worker.process"],
            stdin=subprocess.PIPE,
            pass_fds=(self.table.fd,),
        )
        self.tell(
            Spec(
                name=self.name,
                modules=options.modules,
                queues=options.queues,
                services=options.services,
                slots=options.slots,
                concurrency=options.concurrency,
                grace_seconds=options.grace_seconds,
                log_jobs=options.log_jobs,
                log_level=options.log_level,
                table_fd=self.table.fd,
                path=[os.getcwd(), *[p for p in sys.path if p]],
                boot_ms=options.boot_ms,
            )
        )

    def tell(self, message: msgspec.Struct) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(msgspec.json.encode(message) + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, OSError):
            pass  # it is dead; the next look will tell

    def stop(self, *, replace: bool) -> None:
        if self.stopping_since is None:
            self.stopping_since = time.monotonic()
            self.replace = replace
        self.process.terminate()

    def rss_mb(self) -> float:
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return 0.0
        return pages * resource.getpagesize() / 1_048_576

    def close(self) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.table.close()


class Supervisor:
    """Runs in the main thread of ``fourlane worker``."""

    def __init__(self, store: Store, options: Options, on_ready: Callable[[], None] | None = None) -> None:
        self.store = store
        self.options = options
        self.on_ready = on_ready
        self.children: list[Child] = []
        self.stopping = False
        self.exit_code = 0
        self.started_ms = int(time.time() * 1000)
        self._restart_at: list[tuple[float, int]] = []
        self._pauses: dict[int, float] = {}
        self._to_reload: list[Child] = []
        self._beaten_at = 0.0
        self._present_at = 0.0
        self._links: dict[str, Link] = {}
        self._out, self._in = socket.socketpair()
        self._out.setblocking(False)
        self._in.setblocking(False)
        self._signals: list[int] = []
        self._seen_files: dict[Path, float] = {}
        self._watched_at = 0.0

    def run(self) -> int:
        """Run until stopped; returns the exit code."""
        for caught in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(caught, lambda n, _: self._signals.append(n))
        signal.set_wakeup_fd(self._in.fileno(), warn_on_full_buffer=False)
        scheduler = self._start_scheduler() if self.options.scheduler else None
        try:
            for number in range(self.options.processes):
                self.children.append(Child(number, self.options))
            while self.children or self._restart_at:
                self._tick()
                select.select([self._out], [], [], 0.25)
                try:
                    self._out.recv(4096)
                except BlockingIOError:
                    pass
        finally:
            signal.set_wakeup_fd(-1)
            if scheduler is not None:
                scheduler.stop()
            for child in self.children:
                child.process.kill()
            self._absent()
        return self.exit_code

    def _start_scheduler(self) -> Scheduler:
        from fourlane.scheduler.ticker import start_scheduler

        return start_scheduler(self.store)

    def _tick(self) -> None:
        while self._signals:
            self._signalled(self._signals.pop(0))
        now = time.monotonic()
        for child in list(self.children):
            if child.process.poll() is not None:
                self._ended(child, now)
        for due, number in list(self._restart_at):
            if due <= now:
                self._restart_at.remove((due, number))
                self.children.append(Child(number, self.options))
        if now - self._beaten_at >= _BEAT_SECONDS:
            self._beaten_at = now
            self._beat()
            self._recycle(now)
        self._kill_overdue()
        ready = self.on_ready is not None and self._ready()
        if ready or now - self._present_at >= _PRESENCE_SECONDS:
            self._present_at = now
            self._present()
        if self.options.watch and now - self._watched_at >= 1.0:
            self._watched_at = now
            self._watch(self.options.watch)
        self._go_on_reloading()

    def _ready(self) -> bool:
        ready = bool(self.children) and all(child.table.turned_at for child in self.children)
        if ready and self.on_ready is not None:
            self.on_ready()
            self.on_ready = None
        return ready

    def _signalled(self, number: int) -> None:
        if number == signal.SIGHUP and not self.stopping:
            log.info("reload: restarting %d process(es) one by one", len(self.children))
            self._to_reload = list(self.children)
        elif number == signal.SIGINT and self.stopping:
            log.warning("stopping at once; what runs counts as crashed")
            for child in self.children:
                child.process.kill()
        elif number in (signal.SIGTERM, signal.SIGINT):
            self.stopping = True
            self._restart_at.clear()
            for child in self.children:
                child.stop(replace=False)

    def _go_on_reloading(self) -> None:
        busy = self._restart_at or any(c.stopping_since or not c.table.turned_at for c in self.children)
        if self._to_reload and not busy:
            self._to_reload.pop(0).stop(replace=True)

    # Life and death -----------------------------------------------------------------------------------------

    def _ended(self, child: Child, now: float) -> None:
        self.children.remove(child)
        code = child.process.returncode
        expected = child.stopping_since is not None and code == 0
        if not expected:
            self._report(child, code)
        child.close()
        if code == CANNOT_START:
            self.exit_code = CANNOT_START
            self._signalled(signal.SIGTERM)
            return
        if self.stopping or not child.replace:
            if not expected and self.exit_code == 0:
                self.exit_code = 1
            return
        pause = 0.0
        if not expected and now - child.started_at < _STABLE_SECONDS:
            pause = min(_LONGEST_PAUSE_SECONDS, self._pauses.get(child.number, 0.25) * 2)
        self._pauses[child.number] = pause
        if pause > 1.0:
            log.warning("process %d ends early each time; next start in %.1f s", child.number, pause)
        self._restart_at.append((now + pause, child.number))

    def _report(self, child: Child, code: int) -> None:
        """Its jobs are back at once, not after its silence. Only those that had begun count a crash."""
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        names = child.table.names()
        running = child.table.running()
        log.error("died process=%d pid=%d %s running=%d", child.number, child.process.pid, how, len(running))
        services = list(names)
        for number, service in enumerate(services):
            begun = [r.entry for r in running if r.service == number]
            try:
                back, poisoned = self.store.reclaim(
                    service, names[service], f"worker {child.name} died: {how}", begun=begun
                )
            except RedisUnavailable as error:
                log.warning("%s; its jobs come back when its silence is noticed", error)
                continue
            if back or poisoned:
                log.warning("reclaimed service=%s jobs=%d poison=%s", service, back, ",".join(poisoned) or "none")

    def _kill_overdue(self) -> None:
        now = time.time()
        for child in self.children:
            overdue = [r for r in child.table.running() if 0 < r.hard_deadline <= now]
            if overdue:
                log.error("hard-limit job=%s: killing process %d", overdue[0].entry, child.number)
                child.process.kill()
            elif child.stopping_since and time.monotonic() - child.stopping_since > self.options.grace_seconds + 10:
                log.error("process %d does not stop; killing it", child.number)
                child.process.kill()

    def _recycle(self, now: float) -> None:
        if self.stopping or any(c.stopping_since for c in self.children):
            return
        options = self.options
        for child in self.children:
            if (
                (options.recycle_jobs and child.table.finished >= options.recycle_jobs)
                or (options.recycle_seconds and now - child.started_at >= options.recycle_seconds)
                or (options.recycle_rss_mb and child.rss_mb() >= options.recycle_rss_mb)
            ):
                log.info(
                    "recycle process=%d jobs=%d rss_mb=%.0f",
                    child.number,
                    child.table.finished,
                    child.rss_mb(),
                )
                child.stop(replace=True)
                return

    # Redis --------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        by_service: dict[str, dict[str, Child]] = {}
        for child in self.children:
            if child.table.held:
                for service, name in child.table.names().items():
                    by_service.setdefault(service, {})[name] = child
        for service, holders in by_service.items():
            try:
                lost, cancelled = self.store.beat(self._link(service), service, list(holders), SILENCE_MS)
            except RedisUnavailable as error:
                log.warning("%s", error)
                self._links.pop(service, None)
                continue
            for name in lost:
                holders[name].tell(Told(lost=[name]))
            if cancelled:
                for child in set(holders.values()):
                    child.tell(Told(cancelled=cancelled))

    def _link(self, service: str) -> Link:
        link = self._links.get(service)
        if link is None:
            link = self._links[service] = self.store.connector.open(self.store.service(service).jobs)
        return link

    def _present(self) -> None:
        key = self.store.keys.presence
        for child in self.children:
            names = child.table.names()
            info = {
                "host": socket.gethostname(),
                "pid": child.process.pid,
                "started_ms": self.started_ms,
                "seen_ms": int(time.time() * 1000),
                "queues": self.options.queues or [f"jobs.*.{service}" for service in names],
                "slots": self.options.slots,
                "concurrency": self.options.concurrency,
                "processes": self.options.processes,
                "names": names,
                "held": child.table.held,
                "version": fourlane.__version__,
            }
            try:
                for service in names:
                    self.store.announce(service)
                self.store.connector.command(key, "HSET", key, child.name, json.dumps(info))
            except RedisUnavailable as error:
                log.warning("%s", error)
                return

    def _absent(self) -> None:
        key = self.store.keys.presence
        try:
            present = self.store.connector.command(key, "HKEYS", key)
            mine = [n for n in present if n.decode().startswith(f"{socket.gethostname()}-{os.getpid()}-")]
            if mine:
                self.store.connector.command(key, "HDEL", key, *mine)
        except RedisUnavailable:
            pass  # readers drop it by its age

    # Development --------------------------------------------------------------------------------------------

    def _watch(self, folder: Path) -> None:
        files = {
            path: path.stat().st_mtime
            for path in folder.rglob("*.py")
            if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        }
        if self._seen_files and files != self._seen_files:
            self._signalled(signal.SIGHUP)
        self._seen_files = files
