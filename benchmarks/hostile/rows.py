"""Acme at the outbox: rows as fast as the database lets, and hostile values in every column."""

from __future__ import annotations

import itertools
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg2

from benchmarks.hostile.parties import ACME, BIRD, TASKS, Member

__all__ = ["flood"]

_CALL: Final = "SELECT enqueue_job({task}, args => %s, organization_id => %s)"
_MANY: Final = (
    "INSERT INTO job_outbox (task, service, tier, args, organization_id)"
    " SELECT 'thumb', 'images', 0, '[\"acme\"]', %s FROM generate_series(1, %s)"
)
_DEEP: Final = "[" * 100_000 + "]" * 100_000

_TENANT: Final = f'{{"tenant": "{BIRD.organization}"}}'
_LINES: Final = f'{{"lines": ["t:{BIRD.organization}=1"]}}'

_HOSTILE: Final[dict[str, list[Any]]] = {
    "run_at": ["infinity", "-infinity", "0044-03-15 BC", "294276-12-31", "9999-12-31 23:59:59.999999+00", "0001-01-01",
               "1969-12-31 23:59:59+00", "2199-01-01", "epoch", "now", "tomorrow", "2400-02-30", "24:00"],
    "args": ["[]]", '{"a": 1}', "null", '"x"', "[NaN]", "[1e999]", _DEEP, '["\\u0000"]', '["\\ud800"]', '["\0"]',
             f'["{"x" * 1_100_000}"]', '["a"] ["b"]', f'["a"],{{}},{_TENANT}', f"[1{'0' * 5_000}]", "[]",
             '["a", "b", "c"]', "[null]", '[{"__fourlane__": 1}]', "", " \n[1]\t"],
    "kwargs": ['{"name": "a", "name": "b"}', '{"\\u0000": 1}', '{"self": 1}', '{"": 1}', "[]", '{"options": {}}',
               _TENANT, _LINES, _DEEP],
    "task": ["fourlane.webhooks.deliver", "fourlane.webhooks.purge", "thumb\0", "", "x" * 2_000, "THUMB",
             "thumb'; DROP TABLE job_outbox; --"],
    "service": ["webhooks", "default", "../images", "", "images ", "IMAGES", "x" * 64],
    "tier": [-1, 1, 4, 2**31, "NaN"],
    "order_key": ["bird", "", "\0", "x" * 100_000, str(BIRD.organization), "'"],
    "organization_id": [str(BIRD.organization), None, str(uuid.UUID(int=0)), "x"],
    "id": [str(uuid.UUID(int=0)), "x"],
    "options": [_TENANT, _LINES, '{"on_success": "large"}'],
    "created_by": [str(BIRD.user)],
    "created_at": ["infinity"],
    "relayed_at": ["now"],
    "failed_at": ["now"],
    "error": ["x"],
    "position": [-(2**63), 2**63 - 1, 1],
}  # fmt: skip
_BY_CALL: Final = ("args", "kwargs", "run_at", "order_key", "id", "organization_id", "service", "tier", "task")


def flood(url: str, folder: Path, seconds: float, *, threads: int = 2) -> Counter[str]:
    """Do it for so long; what was taken and what was refused, by its SQLSTATE."""
    heard: Counter[str] = Counter()
    lock = threading.Lock()
    until = time.monotonic() + seconds

    def work(number: int) -> None:
        own: Counter[str] = Counter()
        member = Member(url, ACME)
        for sql, values, label in _hostile(folder) if number == 0 else _many(number):
            if time.monotonic() > until:
                break
            own[_tried(member, sql, values, label)] += 1
        member.close()
        with lock:
            heard.update(own)

    workers = [threading.Thread(target=work, args=[number]) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return heard


def _tried(member: Member, sql: str, values: list[Any], label: str) -> str:
    try:
        member(sql, values)
        return f"{label} taken"
    except psycopg2.Error as error:
        if error.pgcode is None:
            raise  # the connection is gone
        return f"{label} refused {error.pgcode}"
    except ValueError:
        return f"{label} refused by the driver"


def _many(seed: int) -> Iterator[tuple[str, list[Any], str]]:
    """Jobs as good as any, quick and slow, one by one and many at once."""
    chance = random.Random(seed)
    names = list(TASKS)
    while True:
        if chance.random() < 0.02:
            yield _MANY, [str(ACME.organization), chance.choice((10, 1_000, 10_000))], "many rows"
        else:
            task = names[0] if chance.random() < 0.6 else chance.choice(names)
            yield _CALL.format(task=f"'{task}'"), ['["acme"]', str(ACME.organization)], "a row"


def _hostile(folder: Path) -> Iterator[tuple[str, list[Any], str]]:
    """Every column, each of its values; the ids of Bird's jobs among them, as if they had been told."""
    while True:
        for column, values in _HOSTILE.items():
            for value in itertools.chain(values, _ids(folder) if column == "id" else ()):
                yield (*_row({column: value}), f"hostile {column}")
                if column in _BY_CALL:
                    yield (*_call({column: value}), f"hostile {column}")


def _ids(folder: Path) -> list[str]:
    file = folder / "ids"
    return file.read_text().split()[-20:] if file.exists() else []


def _given(odd: dict[str, Any]) -> dict[str, Any]:
    return {"task": "thumb", "args": '["acme"]', "organization_id": str(ACME.organization)} | odd


def _row(odd: dict[str, Any]) -> tuple[str, list[Any]]:
    given = {"service": "images", "tier": 0} | _given(odd)
    marks = ", ".join(["%s"] * len(given))
    return f"INSERT INTO job_outbox ({', '.join(given)}) VALUES ({marks})", list(given.values())


def _call(odd: dict[str, Any]) -> tuple[str, list[Any]]:
    given = _given(odd)
    return f"SELECT enqueue_job({', '.join(f'{name} => %s' for name in given)})", list(given.values())
