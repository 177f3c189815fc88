"""``python -m tests.chaos``: a run, and what it shows. Exit code 1 when a promise did not hold."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.checker import check
from tests.chaos.evidence import load
from tests.chaos.faults import choose
from tests.chaos.report import report
from tests.chaos.runner import Plan, brief, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long the storm lasts; the end takes a minute")
    parser.add_argument("--seed", type=int, help="of all choices; a fresh one by default")
    parser.add_argument("--faults", default="all", help="all, none, or names of faults and tracks: kills,redis-pause")
    parser.add_argument("--brief", action="store_true", help="each fault once and short: the cut of `make test`")
    parser.add_argument("--redis", metavar="PATH", help="a redis-server; the embedded Valkey by default")
    parser.add_argument("--rate", type=float, default=40, help="jobs a second")
    parser.add_argument("--folder", type=Path, help="where to keep the run; a good run leaves none without it")
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="judge a run again that was kept")
    given = parser.parse_args()
    if given.check:
        return judge(given.check)
    try:
        kinds = choose(given.faults)
    except ValueError as error:
        parser.error(str(error))
    seed = given.seed if given.seed is not None else secrets.randbelow(1_000_000)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="chaos-")) / "run"
    names = [kind.name for kind in kinds]
    if given.brief:
        plan = brief(seed, names, binary=given.redis)
    else:
        plan = Plan(seed=seed, seconds=given.seconds, faults=names, binary=given.redis, rate=given.rate)
    length = "--brief" if given.brief else f"--seconds {given.seconds:g}"
    redis = f" --redis {given.redis}" if given.redis else ""
    again = f'make chaos ARGS="{length} --seed {seed} --faults {given.faults}{redis}"'
    print(f"seed {seed}, in {folder}; again: {again}", flush=True)
    began = time.monotonic()
    run(plan, folder)
    code = judge(folder)
    print(f"\n{time.monotonic() - began:.0f} s, seed {seed}")
    if code:
        print(f"kept: {folder}\nagain: {again}")
    elif not given.folder:
        shutil.rmtree(folder.parent)
    return code


def judge(folder: Path) -> int:
    evidence = load(folder)
    findings = check(evidence)
    print(report(evidence, findings))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
