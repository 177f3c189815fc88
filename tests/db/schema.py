"""What a database's catalogue says of its schema, to compare one with another."""

from __future__ import annotations

import re

from sqlalchemy import Connection, text

from fourlane.db.engine import Database

__all__ = ["dump"]

_POSTGRESQL = """
WITH tables AS (
    SELECT * FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'S', 'v')
), rights AS (
    SELECT c.relname AS thing, coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char",
        c.relowner)) AS acl FROM tables AS c
    UNION ALL
    SELECT c.relname || '.' || a.attname, a.attacl FROM pg_attribute AS a JOIN tables AS c ON c.oid = a.attrelid
    WHERE NOT a.attisdropped
    UNION ALL
    SELECT p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner)) FROM pg_proc AS p
    WHERE p.pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT n.nspname, n.nspacl FROM pg_namespace AS n WHERE n.nspname = 'public'
)
SELECT format('%s %s %s %s', relkind, relname, reloptions, obj_description(oid, 'pg_class')) FROM tables
UNION ALL
SELECT format('closed %s', relname) FROM tables WHERE relrowsecurity
UNION ALL
SELECT format('column %s.%s %s %s null:%s default:%s identity:%s storage:%s place:%s', c.relname, a.attname,
    format_type(a.atttypid, a.atttypmod), a.attcollation, NOT a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
    a.attidentity, a.attstorage, row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum))
FROM pg_attribute AS a JOIN tables AS c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT format('constraint %s.%s %s', conrelid::regclass, conname, replace(pg_get_constraintdef(oid), ' NOT VALID', ''))
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT format('not valid %s', conname) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND NOT convalidated
UNION ALL
SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT format('right on %s: %s to %s', r.thing, g.privilege_type, CASE g.grantee WHEN 0 THEN 'PUBLIC'
    ELSE g.grantee::regrole::text END) FROM rights AS r, aclexplode(r.acl) AS g
UNION ALL
SELECT format('policy %s.%s %s %s %s %s %s', tablename, policyname, permissive, roles, cmd, qual, with_check)
FROM pg_policies WHERE schemaname = 'public'
UNION ALL
SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL
SELECT format('%s enabled:%s', pg_get_triggerdef(t.oid), t.tgenabled) FROM pg_trigger AS t
JOIN tables AS c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
"""
_SQLITE = "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite_seq%'"


def dump(database: Database) -> list[str]:
    """A line for each table, column, constraint, index, right, policy, function and trigger, in a steady order."""
    with database.engine.begin() as connection:
        return sorted(_lines(connection))


def _lines(connection: Connection) -> list[str]:
    if connection.dialect.name == "postgresql":
        return [str(line) for line in connection.scalars(text(re.sub(r"(?<!:):(?=[%'])", r"\\:", _POSTGRESQL)))]
    # An ALTER TABLE leaves other blanks and quotes than a CREATE TABLE.
    return [" ".join(re.findall(r"'[^']*'|\w+|[^\s\w\"]", str(line))) for line in connection.scalars(text(_SQLITE))]
