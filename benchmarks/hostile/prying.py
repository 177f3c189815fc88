"""Acme looks for what is Bird's, and tries to change it: every table, every verb."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import psycopg2

from benchmarks.hostile.parties import ACME, BIRD, MARKS, Member

__all__ = ["pry"]

_TABLES: Final = """
    SELECT c.relname, a.attname, has_column_privilege(c.oid, a.attnum, 'SELECT')
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'p')
        AND a.attnum > 0 AND NOT a.attisdropped
"""
_VERBS: Final = (
    'UPDATE "{table}" SET "{column}" = "{column}"',
    'DELETE FROM "{table}"',
    'TRUNCATE "{table}" CASCADE',
    'LOCK TABLE "{table}" IN ACCESS EXCLUSIVE MODE',
    'ALTER TABLE "{table}" DISABLE ROW LEVEL SECURITY',
    'DROP TABLE "{table}"',
)
_ALSO: Final = (
    f"SELECT fourlane_take_quota('{BIRD.organization}', 1000000, 1, now())",
    f"INSERT INTO organization_members (organization_id, user_id) VALUES ('{BIRD.organization}', '{ACME.user}')",
    "INSERT INTO outbox_tasks (task, service) VALUES ('fourlane.webhooks.purge', 'webhooks')",
    "UPDATE outbox_quotas SET rows_a_minute = 1000000",
    "CREATE TABLE public.mine (x int)",
    "ALTER FUNCTION fourlane_organizations() OWNER TO authenticated",
    "SET ROLE fourlane_worker",
    "SET ROLE service_role",
    "SET SESSION AUTHORIZATION postgres",
)


def pry(url: str, seconds: float) -> Counter[str]:
    """Do it for so long, twice at least; whatever begins with SEEN or CHANGED must not be."""
    heard: Counter[str] = Counter()
    member = Member(url, ACME)
    until = time.monotonic() + seconds
    while True:
        tables = _tables(member)
        for table, columns in tables.items():
            heard.update(_look(member, table, columns))
            heard.update(_change(member, table, next(iter(columns))))
        for sql in _ALSO:
            heard[_done(member, sql)] += 1
        if time.monotonic() > until:
            break
        time.sleep(min(2.0, max(0.0, until - time.monotonic())))
    member.close()
    return heard


def _tables(member: Member) -> dict[str, dict[str, bool]]:
    found: dict[str, dict[str, bool]] = {}
    for table, column, readable in member(_TABLES):
        found.setdefault(table, {})[column] = readable
    return found


def _look(member: Member, table: str, columns: dict[str, bool]) -> Iterator[str]:
    open_ones = [f'"{name}"::text' for name, readable in columns.items() if readable]
    if len(open_ones) < len(columns):
        yield _done(member, f'SELECT * FROM "{table}" LIMIT 1')  # a column or all are closed
    if open_ones:
        found = member(
            f"SELECT count(*) FROM \"{table}\" WHERE concat_ws(' ', {', '.join(open_ones)}) ~ %s", ["|".join(MARKS)]
        )
        yield "looked into a table" if found == [(0,)] else f"SEEN {table}"


def _change(member: Member, table: str, column: str) -> Iterator[str]:
    for verb in _VERBS:
        yield _done(member, verb.format(table=table, column=column))


class _UndoneError(Exception):
    pass


def _done(member: Member, sql: str) -> str:
    """Nothing of it is kept, so that one finding does not hide the next."""
    cursor: Any
    try:
        with member.transaction() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '200ms'")
            cursor.execute(sql)
            raise _UndoneError(cursor.rowcount)
    except _UndoneError as done:
        return f"{'SEEN' if sql.startswith('SELECT *') else 'CHANGED'} {sql} ({done} rows)"
    except psycopg2.Error as error:
        return f"prying refused {error.pgcode}"
