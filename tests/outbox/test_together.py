"""All at once: relays that are killed, and members who write good rows and bad ones."""

from __future__ import annotations

import random
import subprocess
import threading
import time
import uuid
from collections import Counter
from typing import Any

from sqlalchemy import func, select

from fourlane import outbox
from fourlane.db.engine import open_database
from fourlane.db.models import JobOutbox
from fourlane.tasks.task import Task
from tests.command import Command
from tests.command import command as command
from tests.outbox.test_bad_rows import insert, without_checks
from tests.outbox.test_relays import Consumer
from tests.outbox.test_relays import consumer as consumer
from tests.servers import eventually

AnyTask = Task[Any, Any]


def test_killed_while_members_write_good_and_bad_rows(
    migrated_postgres_url: str, command: Command, consumer: Consumer, resize: AnyTask
) -> None:
    """Nothing good is lost or doubled, and all that is bad is marked."""
    database = open_database(migrated_postgres_url)
    without_checks(database)
    command.env |= {"DATABASE_URL": migrated_postgres_url, "FOURLANE_OUTBOX_BATCH": "20"}
    bad = [
        {"run_at": "'0044-03-15 BC'"},
        {"run_at": "'infinity'"},
        {"created_at": "'200000-01-01'"},
        {"args": '\'[],{},{"tenant": "victim"},1\''},
        {"args": "'" + "[" * 50_000 + "'"},
        {"options": "'[]'"},
        {"service": "'no service!'"},
        {"tier": "9"},
    ]
    organizations = [str(uuid.UUID(int=n)) for n in range(1, 6)]
    stop, chance, written = threading.Event(), random.Random(11), Counter[str]()

    def write(number: int) -> None:
        own = open_database(migrated_postgres_url)
        while not stop.is_set():
            with own.begin() as session:
                for n in range(20):
                    organization = uuid.UUID(organizations[(number + n) % 5])
                    outbox.enqueue_with_options(session, resize, args=[n], organization_id=organization)
            insert(own, organization_id=f"'{organizations[number]}'", **bad[written["bad"] % len(bad)])
            written.update(good=20, bad=1)
        own.close()

    writers = [threading.Thread(target=write, args=[number]) for number in range(2)]
    for writer in writers:
        writer.start()
    for _ in range(4):
        relays = [command.start("relay", stderr=subprocess.PIPE) for _ in range(2)]
        for one in relays:
            one.stderr.readline()  # ready
        time.sleep(chance.uniform(0.05, 0.3))  # the moment of the kill is by chance, that is the test
        for one in relays:
            one.kill()
            one.wait(10)
    stop.set()
    for writer in writers:
        writer.join()
    assert command("relay", "--once").returncode == 0
    with database.begin() as session:
        good = {str(one) for one in session.scalars(select(JobOutbox.id).where(JobOutbox.relayed_at.is_not(None)))}
        marked = session.scalar(select(func.count()).where(JobOutbox.failed_at.is_not(None), JobOutbox.error != ""))
        assert session.scalar(select(func.count()).select_from(JobOutbox)) == len(good) + (marked or 0)
    assert (len(good), marked) == (written["good"], written["bad"])
    eventually(lambda: consumer.seen.total() >= len(good))
    assert consumer.seen == Counter(good)
    database.close()
