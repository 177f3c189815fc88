"""What a run runs on: the server, the ways to it, and the processes; and the log of what was done to them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

import fourlane
from fourlane.db import migrate
from fourlane.db.engine import open_database
from tests.chaos import ledger
from tests.proxy import FaultyProxy
from tests.servers import Server, server_binary

__all__ = ["Fault", "Process", "Site"]

ROOT = Path(fourlane.__file__).parents[1]
NAMESPACE = "chaos"
READY_SECONDS = 30.0
GRACE_SECONDS = 3

# PR_SET_PDEATHSIG: whatever ends the runner, nothing that it started outlives it.
BOUND = "import ctypes; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0); "
FOURLANE = BOUND + "from fourlane.cli import main; main(prog_name='fourlane')"
PRODUCER = BOUND + "import runpy; runpy.run_module('tests.chaos.producer', run_name='__main__', alter_sys=True)"


class Fault(msgspec.Struct, kw_only=True):
    """Something that was done, and to whom.

    ``effect``: kill, freeze, stop (given its grace), redis (nobody reaches it), link (one site does not), load
    (Redis answers, but not as usual), work (jobs came).
    """

    name: str
    effect: str
    began: float
    ended: float
    who: str = ""
    pids: list[int] = []
    parents: list[int] = []
    """Of a kill of worker processes: the supervisors that see it."""
    text: str = ""


class Process:
    """One program: a worker's supervisor, a scheduler, a producer."""

    def __init__(self, name: str, role: str, popen: subprocess.Popen[bytes], log: Path, version: str = "") -> None:
        self.name = name
        self.role = role
        self.popen = popen
        self.log = log
        self.version = version
        self.frozen: set[int] = set()
        self.stopping = False

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def lives(self) -> bool:
        return self.popen.poll() is None

    def children(self) -> list[int]:
        """The processes under it."""
        try:
            return [int(p) for p in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except OSError:
            return []

    def signal(self, number: signal.Signals, *pids: int) -> None:
        """To it, or to these; those that are gone are passed over."""
        for pid in pids or (self.pid,):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def is_ready(self) -> bool:
        """Whether it has said that it works."""
        said = self.log.read_text(errors="replace")
        return "ready: " in said or " is up\n" in said


class Site:
    """Started by the runner, changed by faults."""

    def __init__(self, folder: Path, *, binary: str | None = None, brief: bool = False) -> None:
        self.brief = brief
        self.folder = folder.resolve()
        self.binary = binary or server_binary()
        self.options = _debugging(self.binary)
        self.book = ledger.Ledger(self.folder / "ledger")
        self.servers = 0
        self.primary = self.new_server()
        self.processes: list[Process] = []
        self.started = 0
        self.faults: list[Fault] = []
        self.links: dict[str, FaultyProxy] = {}
        self.version = ""
        self.wanted: dict[str, Process] = {}
        """What an orchestrator would keep running, by name."""
        self.vanished: list[str] = []
        """Those of them that ended though nobody asked them to."""

    def new_server(self) -> Server:
        self.servers += 1
        config = {"appendfsync": "always", "client-output-buffer-limit": "replica 0 0 0"} | self.options
        return Server(self.folder / f"redis{self.servers}", binary=self.binary, config=config)

    def open(self) -> None:
        """Start the server and the ways to it: "near" for most, "far" for the worker that has its own."""
        self.set_version("1")
        (self.folder / "repaired").mkdir()
        self.primary.start()
        self.links = {name: FaultyProxy("127.0.0.1", self.primary.port) for name in ("near", "far")}
        if not self.brief:
            database = open_database(self.database_url)
            migrate.migrate(database)
            database.close()

    @property
    def database_url(self) -> str:
        """Where the outbox is."""
        return f"sqlite:///{self.folder}/outbox.db"

    def close(self) -> None:
        for process in self.processes:
            for pid in (*process.children(), process.pid):
                process.signal(signal.SIGKILL, pid)
            process.popen.wait(10)
        for link in self.links.values():
            link.close()
        self.primary.stop()
        (self.folder / "faults.json").write_bytes(msgspec.json.encode(self.faults))

    # Processes ----------------------------------------------------------------------------------------------

    def set_version(self, version: str) -> None:
        """What producers send from now on."""
        self.version = version
        new = self.folder / "version.new"
        new.write_text(version)
        new.rename(self.folder / "version")

    def env(self, link: str, version: str) -> dict[str, str]:
        proxy = self.links[link]
        return os.environ | {
            "REDIS_URL": f"redis://{proxy.host}:{proxy.port}/0",
            "DATABASE_URL": self.database_url,
            "FOURLANE_NAMESPACE": NAMESPACE,
            "FOURLANE_GRACE_SECONDS": str(GRACE_SECONDS),
            "FOURLANE_DATA_DIR": str(self.folder / "data"),
            ledger.FOLDER: str(self.folder),
            "CHAOS_VERSION": version,
            "PYTHONPATH": str(ROOT),
        }

    def start(self, name: str, role: str, *words: str, link: str = "near", version: str = "all") -> Process:
        """Start a program; must be called in the main thread, whose end is theirs."""
        self.started += 1
        log = self.folder / f"log{self.started:03d}-{name}"
        code = PRODUCER if role == "producer" else FOURLANE
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, "-c", code, *words],
                cwd=self.folder,
                env=self.env(link, version),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        process = Process(name, role, popen, log, version)
        self.processes.append(process)
        return process

    def want(self, name: str, version: str) -> Process:
        """Start one of the workers, or the scheduler, and start it again whenever it ends (``keep``)."""
        self.wanted[name] = self._start_wanted(name, version)
        return self.wanted[name]

    def _start_wanted(self, name: str, version: str) -> Process:
        if name == SCHEDULER:
            return self.start(name, "scheduler", "scheduler")
        if name == RELAY:
            return self.start(name, "relay", "relay")
        options = WORKERS[name.rstrip("'")]
        words = (
            "worker",
            "tests.chaos.app",
            "--processes",
            str(1 if self.brief else options.processes),
            *options.words,
        )
        return self.start(name, "worker", *words, link=options.link, version=version)

    async def keep(self) -> None:
        """Do what an orchestrator does: start again what has ended. What could not start is no fault of its own."""
        while True:
            for name, process in list(self.wanted.items()):
                if not process.lives:
                    killed = {pid for fault in self.faults if fault.effect == "kill" for pid in fault.pids}
                    if process.is_ready() and process.pid not in killed:
                        code = process.popen.returncode
                        self.vanished.append(f"{name} pid={process.pid} exit code {code} ({process.log.name})")
                    self.want(name, process.version)
            await asyncio.sleep(0.5)

    def living(self, role: str) -> list[Process]:
        """Those that work and were not told to stop; frozen ones left out."""
        mine = [p for p in self.processes if p.role == role and p.lives and not p.frozen and not p.stopping]
        return [p for p in mine if p.is_ready()]

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for it; whether it came."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.1)
        return True

    async def ready(self, name: str) -> bool:
        """Wait until what is wanted under this name works, or is wanted no more."""
        return await self.until(lambda: (process := self.wanted.get(name)) is None or process.is_ready(), READY_SECONDS)

    async def ended(self, process: Process) -> int:
        """Wait for its end; one that does not end is killed, and the checker tells of it by its exit code."""
        if not await self.until(lambda: not process.lives, GRACE_SECONDS + 20):
            process.signal(signal.SIGKILL)
            process.popen.wait(10)
        return process.popen.returncode

    # What was done ------------------------------------------------------------------------------------------

    def note(self, fault: Fault) -> Fault:
        """Write a fault down when it begins; its end is set later."""
        self.faults.append(fault)
        return fault


class WorkerOptions(msgspec.Struct, frozen=True):
    """How one of the workers is started."""

    words: tuple[str, ...]
    processes: int = 1
    link: str = "near"


RELAY = "rex"
SCHEDULER = "sam"
"""It serves nothing; ada schedules too."""
WORKERS = {
    "ada": WorkerOptions(("--slots", "6", "--scheduler"), processes=2),
    "bob": WorkerOptions(("--slots", "6"), link="far"),
    "cyd": WorkerOptions(("--slots", "4", "--services", "solo", "--services", "paced")),
}
"""Two serve all services, one of them over a way of its own; one serves two of them and is mostly idle."""


def _debugging(binary: str) -> dict[str, str]:
    """Lines of the config file that faults need; Redis 6.2 knows none of them and has DEBUG without being asked."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"v=(\d+)", said)
    assert version, said
    if int(version[1]) < 7:
        return {}
    return {"enable-debug-command": "local", "loading-process-events-interval-bytes": "1024"}
