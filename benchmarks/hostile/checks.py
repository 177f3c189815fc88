"""Whether anything of Bird's was seen, changed or lost, and whether all of Acme's ended, or why not."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.hostile.bird import Bird, lines_of
from benchmarks.hostile.parties import ACME, BIRD, MARK
from benchmarks.hostile.world import World
from fourlane import EnqueuedJob
from fourlane.job import State
from fourlane.names import Queue, Tier
from fourlane.queues import browse, dead_letters
from fourlane.queues.store import Store
from fourlane.tasks.task import default_broker

__all__ = ["belongings", "drain", "faults"]

_SOON_MS: Final = 60_000
_WRONG: Final = re.compile(
    r"^unexpected|^process \d|^reclaimed|error of its own|has ended|killing|^waiting:|Exception in ASGI"
)
_OWN: Final = ("job_outbox", "webhook_deliveries", "notification_records")  # looked at one by one


def belongings(admin: Any) -> dict[str, str]:
    """A digest of each table's rows of Bird, but for those that its own work adds to."""
    admin.execute(
        "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND column_name = 'organization_id' OR table_schema = 'public' AND table_name = 'organizations'"
    )
    digests = {}
    for table in sorted({name for (name,) in admin.fetchall()} - {*_OWN, "outbox_usage"}):
        key = "id" if table == "organizations" else "organization_id"
        admin.execute(
            f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} AS t WHERE {key} = %s",
            [str(BIRD.organization)],
        )
        digests[table] = str(admin.fetchone()[0])
    return digests


def drain(world: World, seconds: float) -> Iterator[str]:
    """Wait until nothing is left that could go on now; else what is left."""
    until = time.monotonic() + seconds
    while left := list(_left(world)):
        if time.monotonic() > until:
            yield from left
            return
        time.sleep(0.2)


def _left(world: World) -> Iterator[str]:
    world.admin.execute(
        "SELECT count(*) FROM job_outbox WHERE relayed_at IS NULL AND failed_at IS NULL AND held_until IS NULL"
    )
    if rows := world.admin.fetchone()[0]:
        yield f"{rows} rows are not relayed"
    asked_to_wait = _waiting(world.admin, "AND e.url LIKE '%%/later/%%'")
    for service in browse.services(default_broker().store):
        ready = sum(queue.ready for queue in service.queues)
        soon = service.next_due_in_ms is not None and service.next_due_in_ms < _SOON_MS
        parked = max(0, service.parked - asked_to_wait)
        if ready or service.running or soon or parked:
            yield f"{service.name}: {ready} ready, {service.running} running, {parked} parked, more soon: {soon}"
    if pending := _waiting(world.admin, "AND e.url NOT LIKE '%%/later/%%'"):
        yield f"{pending} deliveries have not ended"


def _waiting(admin: Any, which: str) -> int:
    admin.execute(
        "SELECT count(*) FROM webhook_deliveries AS d JOIN webhook_endpoints AS e ON e.id = d.endpoint_id"
        f" WHERE d.status = 'pending' {which}",
        [],
    )
    return int(admin.fetchone()[0])


def faults(world: World, bird: Bird, before: dict[str, str], heard: Counter[str]) -> Iterator[str]:
    """What is wrong, one line each."""
    yield from bird.failures
    yield from (f"{what}, {number} times" for what, number in heard.items() if what.startswith(("SEEN", "CHANGED")))
    yield from (f"Bird's rows of {t} changed" for t, now in belongings(world.admin).items() if now != before[t])
    yield from _jobs(world, bird)
    yield from _deliveries(world, bird)
    yield from _incoming(world.folder, bird)
    yield from _mails(world, bird)
    yield from _ends(world, default_broker().store)
    if world.workers_now() != world.workers:
        yield f"worker processes died: {sorted(world.workers)} are {sorted(world.workers_now())}"
    yield from _log(world.processes.log("worker"), "worker")
    yield from _log(world.processes.log("webhooks"), "webhooks")


def _jobs(world: World, bird: Bird) -> Iterator[str]:
    world.admin.execute(
        "SELECT id::text, args, error, order_key FROM job_outbox WHERE organization_id = %s AND task = 'thumb'",
        [str(BIRD.organization)],
    )
    rows = {id: rest for id, *rest in world.admin.fetchall()}
    if set(rows) != set(bird.jobs.values()):
        yield f"Bird wrote {len(bird.jobs)} rows, {len(rows)} are there"
    started = Counter(name for _, name in lines_of(world.folder / "started"))
    for name, id in bird.jobs.items():
        if id not in rows or rows[id][:2] != [f'["{name}"]', None]:
            yield f"the row of {name} is {rows.get(id)}"
        if started[name] != 1:
            yield f"{name} began {started[name]} times"
        job = EnqueuedJob[Any](default_broker(), Queue("images", Tier.P0), id)
        try:
            result, lines = job.result(0), job.log_lines()
        except Exception as error:
            yield f"the result of {name}: {error!r}"
            continue
        if result != {"of": name, "tenant": str(BIRD.organization)} or lines != [f"thumb of {name}"]:
            yield f"the result of {name} is {result!r:.200}, its log {lines!r:.200}"
    for name in set(started) - set(bird.jobs):
        yield f"a job of Bird's began that it never sent: {name:.200}"


def _deliveries(world: World, bird: Bird) -> Iterator[str]:
    yield from (f"Bird's receiver got what is not Bird's: {what:.300}" for what in world.receiver.strange[:5])
    for name, arrived in world.receiver.arrived.items():
        numbers = [number for _, number in arrived]
        if sorted(numbers) != sorted(bird.sent):
            yield f"{name}: {len(bird.sent)} events were sent, {len(set(numbers))} arrived, {len(numbers)} times"
        if name == "ordered" and numbers != sorted(numbers):
            yield "ordered deliveries overtook each other"
    world.admin.execute(
        "SELECT status, attempts, payload -> 'data' ->> 'of', response_status, error, count(*) FROM webhook_deliveries"
        " WHERE organization_id = %s GROUP BY 1, 2, 3, 4, 5",
        [str(BIRD.organization)],
    )
    found = world.admin.fetchall()
    if found != [("delivered", 1, MARK, 200, None, 2 * len(bird.sent))]:
        yield f"Bird's deliveries are {found}, not {2 * len(bird.sent)} delivered at once"


def _incoming(folder: Path, bird: Bird) -> Iterator[str]:
    received = Counter(name for _, name in lines_of(folder / "received"))
    for id, status in bird.answers.items():
        if (status, received[id]) != (200, 1):
            yield f"the webhook {id} was answered {status} and handled {received[id]} times"
    yield from (f"a webhook was handled that nobody sent: {id:.100}" for id in set(received) - set(bird.answers))


def _mails(world: World, bird: Bird) -> Iterator[str]:
    got = Counter(mail["subject"] for mail in world.providers.emails)
    yield from (f"the email {subject!r} arrived {got[subject]} times" for subject in bird.mails if got[subject] != 1)
    world.admin.execute(
        "SELECT status, error, user_id::text, count(*) FROM notification_records WHERE organization_id = %s"
        " GROUP BY 1, 2, 3",
        [str(BIRD.organization)],
    )
    found = world.admin.fetchall()
    if found != [("sent", None, str(BIRD.user), len(bird.mails))]:
        yield f"Bird's records of notifications are {found}, not {len(bird.mails)} sent"


def _ends(world: World, store: Store) -> Iterator[str]:
    world.admin.execute("SELECT count(*) FROM job_outbox WHERE failed_at IS NOT NULL AND coalesce(error, '') = ''")
    if silent := world.admin.fetchone()[0]:
        yield f"{silent} rows failed without a reason"
    world.admin.execute(
        "SELECT count(*) FROM webhook_deliveries WHERE status IN ('failed', 'skipped') AND coalesce(error, '') = ''"
    )
    if silent := world.admin.fetchone()[0]:
        yield f"{silent} deliveries ended without a reason"
    cursor = ""
    while True:
        page = dead_letters.find(store, cursor=cursor, limit=500)
        for info in page.letters:
            if not info.reason or not info.detail:
                yield f"{info.id} is dead without a reason"
        cursor = page.cursor
        if not cursor:
            break
    bird_dead = dead_letters.count(store, dead_letters.Filter(tenant=str(BIRD.organization)))
    if bird_dead:
        yield f"{bird_dead} jobs of Bird are dead"
    world.admin.execute(
        "SELECT d.job_id FROM webhook_deliveries AS d WHERE d.status = 'pending' AND d.organization_id = %s LIMIT 50",
        [str(ACME.organization)],
    )
    for (id,) in world.admin.fetchall():
        if EnqueuedJob[Any](default_broker(), Queue("webhooks", Tier.P1), id).status() is State.UNKNOWN:
            yield f"a delivery is pending whose job {id} is gone"


def _log(text: str, name: str) -> Iterator[str]:
    """What processes say when something of ours is wrong; and Bird's words in lines of others' jobs."""
    for line in text.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            said = {"message": line}
        if _WRONG.search(said.get("message", "")):
            yield f"in the log of {name}: {line:.400}"
        if MARK in line and said.get("metadata", {}).get("organization_id") == str(ACME.organization):
            yield f"Bird's words in a line of Acme's, of {name}: {line:.400}"
