"""The outbox's relay: rows a second, and how long a row waits when it is busy.

    python -m benchmarks.outbox [--rows 50000] [--seconds 15] [--rate 5000] [--per 20] [--only direct,pooled,sqlite]

Starts its own Redis, PostgreSQL (with fsync) and PgBouncer. The relay is a thread of this process; the rows of the
second part are written by two others, through the same way as the relay's, as fast as asked, or as they can.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event, insert, make_url, select

from fourlane.db import migrate
from fourlane.db.engine import Database, open_database
from fourlane.db.models import JobOutbox
from fourlane.outbox.relay import Relay
from fourlane.queues import relayed
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.store import Store
from tests.postgres import connect as connect_postgres
from tests.postgres import pgbouncer, postgres
from tests.servers import Server

ARGS = '["https://example.org/picture.png", 1200, {"format": "webp", "quality": 80}]'
WRITERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--rate", type=int, default=5_000, help="rows a second")
    parser.add_argument("--per", type=int, default=20, help="rows in a transaction")
    parser.add_argument("--only", default="direct,pooled,sqlite")
    parser.add_argument("--write", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        _write(*given.write)
        return
    print("way       drain rows/s  busy rows/s   lag p50       p95       max  idle queries/min")
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder) / "redis", aof=False) as redis, _ways() as ways:
        for way in given.only.split(","):
            url, pooled = ways(way, Path(folder))
            database = open_database(url, transaction_pooler=pooled)
            migrate.migrate(database)
            store = Store(Connector(client_of(redis.url)), namespace=way)
            drained = _drain(database, store, given.rows)
            lags = _busy(database, store, url, pooled, given.seconds, given.rate, given.per)
            idle = _idle(database, store)
            p95 = statistics.quantiles(lags, n=20)[18]
            print(
                f"{way:8} {drained:12,.0f} {len(lags) / given.seconds:12,.0f} {statistics.median(lags):6.1f} ms "
                f"{p95:6.1f} ms {max(lags):6.1f} ms {idle:17.0f}",
                flush=True,
            )
            database.close()
            store.connector.close()


@contextmanager
def _ways() -> Iterator[Any]:
    with ExitStack() as stack:
        servers: list[Any] = []

        def way(name: str, folder: Path) -> tuple[str, bool]:
            if name == "sqlite":
                return f"sqlite:///{folder}/outbox.db", False
            if not servers:
                servers.append(stack.enter_context(postgres(durable=True)))
                servers.append(stack.enter_context(pgbouncer(servers[0].port)))
            admin = connect_postgres(servers[0].url)
            admin.cursor().execute(f"CREATE DATABASE {name}")
            admin.close()
            url = make_url(servers[0].url_of(name))
            if name == "pooled":
                url = url.set(port=servers[1])
            return url.render_as_string(hide_password=False), name == "pooled"

        yield way


def _row(number: int) -> dict[str, Any]:
    return {"id": uuid.uuid4(), "task": "resize", "service": "images", "args": ARGS, "kwargs": f'{{"n": {number}}}'}


def _drain(database: Database, store: Store, rows: int) -> float:
    for first in range(0, rows, 1000):
        with database.begin() as session:
            session.execute(insert(JobOutbox.__table__), [_row(n) for n in range(first, first + 1000)])  # type: ignore[arg-type]
    relay = Relay(database, store)
    began = time.monotonic()
    assert relay.drain() == rows
    return rows / (time.monotonic() - began)


def _busy(database: Database, store: Store, url: str, pooled: bool, seconds: int, rate: int, per: int) -> list[float]:
    """Milliseconds from the row's creation until Redis has answered."""
    arrived: dict[str, float] = {}
    accept = relayed.relay

    def timed(store: Store, service: str, jobs: Any, **options: Any) -> Any:
        reply = accept(store, service, jobs, **options)
        now = time.time()
        arrived.update({job.id[2:]: now for job in jobs})
        return reply

    relayed.relay = timed
    relay, stop = Relay(database, store), threading.Event()
    thread = threading.Thread(target=relay.run, args=[stop])
    thread.start()
    words = [url, "pooled" if pooled else "", str(seconds), str(rate / WRITERS), str(per)]
    call = [sys.executable, "-m", "benchmarks.outbox", "--write", *words]
    writers = [subprocess.Popen(call) for _ in range(WRITERS)]
    assert not any(writer.wait() for writer in writers)
    time.sleep(1)
    stop.set()
    thread.join()
    relayed.relay = accept
    with database.begin() as session:
        created = {str(i): t.timestamp() for i, t in session.execute(select(JobOutbox.id, JobOutbox.created_at))}
    return [(moment - created[job_id]) * 1000 for job_id, moment in arrived.items()]


def _write(url: str, pooled: str, seconds: str, rate: str, per: str) -> None:
    database = open_database(url, transaction_pooler=bool(pooled))
    began, written = time.monotonic(), 0
    while (spent := time.monotonic() - began) < float(seconds):
        if written > spent * float(rate):
            time.sleep(0.001)
            continue
        with database.begin() as session:
            session.execute(insert(JobOutbox.__table__), [_row(n) for n in range(int(per))])  # type: ignore[arg-type]
        written += int(per)


def _idle(database: Database, store: Store, seconds: int = 10) -> float:
    relay, stop = Relay(database, store), threading.Event()
    thread = threading.Thread(target=relay.run, args=[stop])
    thread.start()
    time.sleep(3)
    queries: list[str] = []

    def count(_: Any, __: Any, sql: str, *___: Any) -> None:
        queries.append(sql)

    event.listen(database.engine, "before_cursor_execute", count)
    time.sleep(seconds)
    event.remove(database.engine, "before_cursor_execute", count)
    stop.set()
    thread.join()
    return len([q for q in queries if not q.startswith(("BEGIN", "SET LOCAL"))]) * 60 / seconds


if __name__ == "__main__":
    main()
