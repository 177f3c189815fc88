"""Runs dramatiq's own tests, with the files beside this one in the place of its fixtures."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.compat.place import Place
from tests.compat.results import Result
from tests.servers import Server

__all__ = ["run_suite"]

NOT_RUN: Final = (
    "test_rabbitmq.py",  # no Redis in these
    "test_pidfile.py",
    "test_watch.py",
    "benchmarks",
    "test_redis.py::test_redis_broker_can_connect_via_url",  # these two want a server on Redis's own port
    "test_redis.py::test_redis_broker_can_connect_via_client",
    "test_redis.py::test_redis_join_race_condition",  # waits for ever for the internal command that it calls
    "test_cli.py::test_cli_can_be_reloaded_on_sighup",  # fails on dramatiq's own broker, where it is started so
    "middleware/test_asyncio.py::test_event_loop_thread_run_coroutine_interrupted",  # as it is, one time in two
)
OF_THE_COMMAND: Final = "test_cli.py"  # dramatiq's, which does not start our worker


def run_suite(
    place: Place, folder: Path, workers: Sequence[str], word: str, is_meant: Callable[[Result], object]
) -> list[Result]:
    """All tests with each worker, both at once: each has a server of its own.

    What fails and is not meant to is tried once more, alone: some tests ask for tenths of a second.
    """
    found = _run(place, folder, workers, ["tests", "-k", word])
    for worker in workers:
        failed = [
            result for result in found if result.worker == worker and result.state == "no" and not is_meant(result)
        ]
        if failed:
            again = {result.name: result for result in _run(place, folder, [worker], [_path(r) for r in failed])}
            found = [again.get(r.name, r) if r in failed else r for r in found]
    return found


def _run(place: Place, folder: Path, workers: Sequence[str], chosen: Sequence[str]) -> list[Result]:
    started = []
    for worker in workers:
        server = Server(place.folder / f"redis-{worker}", aof=False)
        server.start()
        started.append((worker, server, _start(place, folder, worker, server.url, chosen)))
    found: list[Result] = []
    for worker, server, process in started:
        process.wait()
        server.stop()
        found += _read(place.folder / f"suite-{worker}.xml", worker)
    return found


def _start(place: Place, folder: Path, worker: str, url: str, chosen: Sequence[str]) -> subprocess.Popen[bytes]:
    options = [f"--junitxml={place.folder}/suite-{worker}.xml", "--timeout=60"]
    options += ["--tb=short", "--show-capture=no", "-q", "-p", "no:cacheprovider"]
    for name in (*NOT_RUN, *([OF_THE_COMMAND] if worker == "fourlane" else [])):
        options.append(f"--deselect=tests/{name}" if "::" in name else f"--ignore=tests/{name}")
    environ = place.environ(worker, url, place.folder) | {"PYTHONPATH": str(folder)}
    with (place.folder / f"suite-{worker}.log").open("wb") as log:
        command = [place.bin / "python", "-m", "pytest", *options, *chosen]
        return subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)


def _path(result: Result) -> str:
    module, _, test = result.name.partition("::")
    return f"tests/{module.replace('.', '/')}.py::{test}"


def _read(path: Path, worker: str) -> list[Result]:
    found = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname', '').removeprefix('tests.')}::{case.get('name')}"
        state, detail = "ok", ""
        for child in case:
            if child.tag in ("failure", "error"):
                state, detail = "no", " ".join((child.get("message") or "").split())[:160]
            elif child.tag == "skipped":
                state = "skipped"
        found.append(Result(worker, name, state, detail))
    return found
