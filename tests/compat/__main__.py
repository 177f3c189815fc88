"""``make compat``: dramatiq's own tests, and packages made for it, on our broker with dramatiq's worker and with ours.

Exit code 0 when everything holds but what expected.py lists, and all of that is still so.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.compat.expected import EXPECTED
from tests.compat.packages import run_packages
from tests.compat.place import Place
from tests.compat.results import Result, judge, reason_for, table
from tests.compat.suite import run_suite

WORKERS = ("dramatiq", "fourlane")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.compat", description=__doc__)
    parser.add_argument("--only", choices=("suite", "packages"), help="one of the two")
    parser.add_argument("--source", type=Path, help="a checkout of dramatiq, which has more tests than its sdist")
    parser.add_argument("-k", default="", metavar="WORD", help="only tests or packages whose name has this word")
    options = parser.parse_args()
    began = time.monotonic()
    place = Place(Path(".bench/compat"))
    place.make()
    found: list[Result] = []
    if options.only != "packages":
        tests = place.unpack_tests(options.source)
        found += run_suite(place, tests, WORKERS, options.k, lambda result: reason_for(result, EXPECTED))
    if options.only != "suite":
        found += run_packages(place, WORKERS, options.k)
    print(table(found, EXPECTED))
    surprises = judge(found, EXPECTED)
    for line in surprises:
        print(line)
    print(f"{len(surprises)} surprises; {time.monotonic() - began:.0f} s; logs in {place.folder}")
    return 1 if surprises or not found else 0


if __name__ == "__main__":
    sys.exit(main())
