"""One part of the attack, in a process of its own: ``python -m benchmarks.hostile.attack PART JSON``.

Prints as JSON how often what happened.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["PARTS"]


# Each imports what it needs: a process begins sooner without the rest.
def _rows(given: dict[str, Any]) -> Counter[str]:
    from benchmarks.hostile import rows

    return rows.flood(given["members_url"], Path(given["folder"]), given["seconds"])


def _prying(given: dict[str, Any]) -> Counter[str]:
    from benchmarks.hostile import prying

    return prying.pry(given["members_url"], given["seconds"])


def _forged(given: dict[str, Any]) -> Counter[str]:
    from benchmarks.hostile import forged

    return asyncio.run(forged.flood(given["webhooks_port"], given["seconds"], given["forged_rate"]))


def _events(given: dict[str, Any]) -> Counter[str]:
    from benchmarks.hostile import events
    from fourlane.db.setup import database
    from fourlane.root import root

    return events.send(root().part(database), given["seconds"], given["events"])


def _receivers(given: dict[str, Any]) -> Counter[str]:
    """Until SIGTERM."""
    from benchmarks.hostile import receivers

    seen: Counter[str] = Counter()

    async def until_told() -> None:
        serving = asyncio.create_task(receivers.serve(given["receivers_port"], given["redis_port"], seen))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
        print("serving", flush=True)
        with suppress(asyncio.CancelledError):
            await serving

    asyncio.run(until_told())
    return seen


PARTS = {"rows": _rows, "prying": _prying, "forged": _forged, "events": _events, "receivers": _receivers}


if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](json.loads(sys.argv[2]))), flush=True)
