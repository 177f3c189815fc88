"""Starts ``fourlane`` in processes that need not load it: each is forked from one that has.

Such a process has its own environment, folder, files and end, like any other. It begins in 10 ms, where a new
interpreter spends 300 ms on what all of them import. What an import costs and brings is tested on new ones.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

SOURCE = Path(__file__).parents[1]
PROGRAM = "import sys; from tests.warm import serve; serve(int(sys.argv[1]))"
MOST_BYTES = 256 << 10
LOADED = [
    "dramatiq.brokers.stub",
    "fourlane.app",
    "fourlane.config.load",
    "fourlane.tasks.upkeep.beyond",
    "fourlane.tasks.billing.differences",
    "fourlane.events.handlers",
    "fourlane.providers.ai",
    "fourlane.queues.browse",
    "fourlane.scheduler.ticker",
    "fourlane.tasks.ai.money.prices",
    "fourlane.worker.process.supervisor",
    "genai_prices",
]
READ_AT_START = ("PYTHON", "LC_", "LANG")  # variables that an interpreter reads when it begins


def _read_at_start(env: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in env.items() if name.startswith(READ_AT_START)))


class Process(subprocess.Popen[Any]):
    """``Popen(["fourlane", ...])``: all of its options that have to do with files, folder, environment and session."""

    def _execute_child(self, args: Sequence[str], *given: Any) -> None:
        folder, env, files, alone = given[4], given[5] or os.environ, given[9:15], given[-2]
        stdio = [own if number == -1 else number for own, number in enumerate((files[0], files[3], files[5]))]
        request = {"args": args[1:], "env": dict(env), "folder": str(folder or Path.cwd()), "alone": alone}
        self._link, theirs = socket.socketpair()
        self._ready = select.poll()  # ``select`` takes no descriptor over 1023
        self._ready.register(self._link, select.POLLIN)
        with theirs:
            socket.send_fds(_server(_read_at_start(env)), [json.dumps(request).encode()], [theirs.fileno(), *stdio])
        self._close_pipe_fds(*files)  # type: ignore[attr-defined]
        self._child_created = True
        self.pid = int(self._line())

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            piece = self._link.recv(1)
            assert piece, "the process that forks has ended"
            line += piece
        return line

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        return self._ended_within(0)

    def _wait(self, timeout: float | None) -> int:
        code = self._ended_within(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def _ended_within(self, seconds: float | None) -> int | None:
        if self.returncode is None and self._ready.poll(None if seconds is None else seconds * 1000):
            self.returncode = int(self._line())
            self._link.close()
        return self.returncode


@functools.cache
def _server(variables: tuple[tuple[str, str], ...]) -> socket.socket:
    """The way to a process that forks, begun with these variables; it ends when the way is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MOST_BYTES)
    env = {name: value for name, value in os.environ.items() if not name.startswith(READ_AT_START)}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=SOURCE,
            env=env | dict(variables),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def serve(number: int) -> NoReturn:
    """Load everything, then fork one command for each request."""
    from fourlane import cli

    for name in [*LOADED, *cli._HOMES.values()]:
        importlib.import_module(name)
    for name in ("tests.warm", "tests"):
        del sys.modules[name]
    gc.collect()
    gc.freeze()
    requests = socket.socket(fileno=number)
    while True:
        request, files, _, _ = socket.recv_fds(requests, MOST_BYTES, 4)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            requests.close()
            _begin_and_watch(json.loads(request), files)
            sys.argv = ["-c", *json.loads(request)["args"]]
            cli.main(prog_name="fourlane")
        for file in files:
            os.close(file)
        while _reap():
            pass


def _reap() -> int:
    try:
        return os.waitpid(-1, os.WNOHANG)[0]
    except ChildProcessError:
        return 0


def _begin_and_watch(request: dict[str, object], files: list[int]) -> None:
    """Returns in the new process; the one that forked it tells its id, and how it ended."""
    tells, *stdio = files
    pid = os.fork()
    if pid == 0:
        os.close(tells)
        for number, file in enumerate(stdio):
            os.dup2(file, number)
            os.close(file)
        _open_stdio()
        if request["alone"]:
            os.setsid()
        os.chdir(str(request["folder"]))
        os.environ.clear()
        os.environ.update(request["env"])  # type: ignore[call-overload]
        time.tzset()
        return
    for file in stdio:
        os.close(file)
    os.write(tells, b"%d\n" % pid)
    os.write(tells, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _open_stdio() -> None:
    """As an interpreter does when it begins: what these files can do is found out then."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        before = getattr(sys, name)
        lines = number == 2 or os.isatty(number)
        file = open(number, mode, 1 if lines else -1, before.encoding, before.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, file)
        setattr(sys, f"__{name}__", file)
