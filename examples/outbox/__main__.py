"""Jobs that exist exactly when a transaction commits, though the relay is killed again and again.

    python -m examples.outbox

Starts ``fourlane dev`` without its relay (an embedded Valkey and SQLite, unless REDIS_URL and DATABASE_URL are set) and
relays of its own. Every third order is rolled back. In the end each order that was committed is confirmed once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from fourlane import outbox
from fourlane.app import open_database
from fourlane.config import load_settings
from fourlane.db import migrate
from fourlane.db.engine import Database

ORDERS = 300
KILLS = 3
PATIENCE_SECONDS = 60
FOURLANE = [sys.executable, "-m", "fourlane.cli"]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "confirmed"
        file.touch()
        dev = _start("dev", "--no-relay", "examples.outbox.tasks")
        try:
            database = open_database(load_settings())
            migrate.migrate(database)
            print(f"database: {database}", flush=True)
            committed: set[int] = set()
            for first in range(0, ORDERS, ORDERS // KILLS):
                relay = _start("relay")
                committed |= _order(database, range(first, first + ORDERS // KILLS), file)
                relay.kill()
                relay.wait()
                print(f"  {len(committed)} orders committed; the relay is killed", flush=True)
            relay = _start("relay")
            confirmed = _wait(file, committed)
            _stop(relay)
        finally:
            _stop(dev)
    twice = sum(count > 1 for count in confirmed.values())
    missing, invented = committed - confirmed.keys(), confirmed.keys() - committed
    print(
        f"{ORDERS} orders, {len(committed)} committed: {len(confirmed)} confirmed, {len(missing)} missing, "
        f"{twice} twice, {len(invented)} of those rolled back"
    )
    return 1 if missing or twice or invented else 0


def _order(database: Database, numbers: range, file: Path) -> set[int]:
    from examples.outbox.tasks import confirm  # not before there is a Redis that settings can name

    committed = set()
    for number in numbers:
        with database.session() as session:
            outbox.enqueue(session, confirm, number, str(file))
            if number % 3 == 2:
                session.rollback()
            else:
                session.commit()
                committed.add(number)
    return committed


def _wait(file: Path, committed: set[int]) -> Counter[int]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        confirmed = Counter(int(line) for line in file.read_text().split())
        if confirmed.keys() >= committed or time.monotonic() > deadline:
            return confirmed
        time.sleep(0.1)


def _start(*words: str) -> subprocess.Popen[str]:
    """Start a command of ours and wait until it is ready."""
    process = subprocess.Popen([*FOURLANE, *words], stderr=subprocess.PIPE, text=True, env=os.environ)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("ready:"):
            break
        print(line, end="", file=sys.stderr)
    else:
        raise SystemExit(f"fourlane {words[0]} ended with exit code {process.wait()}")
    # It writes a line for each job, and would wait for a reader once the pipe is full.
    threading.Thread(target=process.stderr.read, daemon=True).start()
    return process


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait()


if __name__ == "__main__":
    sys.exit(main())
