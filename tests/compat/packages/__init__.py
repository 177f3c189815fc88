"""Runs the programs beside this file, each a real one with real worker processes, and reads their checks."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.compat.place import Place
from tests.compat.results import Result
from tests.servers import Server

__all__ = ["run_packages"]

HERE: Final = Path(__file__).parent
OF_ONE_WORKER: Final = {"with_gevent": "dramatiq"}
AT_ONCE: Final = 2


def run_packages(place: Place, workers: Sequence[str], word: str) -> list[Result]:
    programs = [path.stem for path in sorted(HERE.glob("with_*.py")) if word in path.stem]
    jobs = [(p, w) for p in programs for w in workers if OF_ONE_WORKER.get(p, w) == w]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [result for found in pool.map(lambda job: _run(place, *job), jobs) for result in found]


def _run(place: Place, program: str, worker: str) -> list[Result]:
    folder = place.folder / "packages" / f"{program}-{worker}"
    shutil.rmtree(folder, ignore_errors=True)
    with Server(folder, aof=False) as server:
        done = subprocess.run(
            [place.bin / "python", f"{program}.py"],
            cwd=HERE,
            env=place.environ(worker, server.url, folder),
            capture_output=True,
            text=True,
            timeout=180,
        )
    (folder / "program.log").write_text(done.stdout + done.stderr)
    found = []
    for line in done.stdout.splitlines():
        state, _, rest = line.partition(" ")
        if state in ("ok", "no"):
            what, _, detail = rest.partition(" - ")
            found.append(Result(worker, f"{program}: {what}", state, detail))
    if done.returncode or not found:
        fault = " ".join(done.stderr.strip().splitlines()[-1:]) or "it checked nothing"
        found.append(Result(worker, f"{program}: runs", "no", fault))
    return found
