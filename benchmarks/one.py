"""One measurement, in a process of its own: ``python -m benchmarks.one CASE PEER REDIS_URL`` prints it as JSON.

So no peer's producer, threads or garbage weigh on the next, and a measurement that hangs can be ended.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

from benchmarks import cases, own
from benchmarks.peers import load
from benchmarks.server import Redis
from benchmarks.workers import TooLate

__all__ = ["main"]


def main(case: str, name: str, url: str) -> dict[str, Any]:
    """The figures of a case, or why there are none."""
    signal.signal(signal.SIGTERM, _ended)
    try:
        peer = load(name, url, case)
    except ImportError as error:
        return {"missing": str(error)}
    about = {
        "version": peer.version(),
        "settings": peer.settings,
        "acknowledged": peer.acknowledged,
    }
    measure: Any = cases.CASES.get(case) or own.OWN[case]
    try:
        figures = measure(Redis(url), peer)
    except TooLate as error:
        return {"about": about, "failed": str(error)}
    finally:
        peer.close()
    return {"about": about, "figures": figures}


def _ended(*_: object) -> None:
    raise TooLate("took longer than its time limit")


if __name__ == "__main__":
    print("RESULT " + json.dumps(main(*sys.argv[1:])))
