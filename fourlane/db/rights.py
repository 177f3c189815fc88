"""What roles of PostgreSQL may do with our tables that they should not: found, told, taken away.

Row-level security stands before the rows, not before TRUNCATE; and Supabase's default privileges give whatever a later
migration makes to everybody. So what strangers were given is taken away after each migration, whoever wrote it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, text

from fourlane.db.models import Base

__all__ = ["Excess", "excess", "faults", "take_away"]

PLATFORM: Final = (
    "organizations",
    "organization_members",
    "credit_accounts",
    "credit_transactions",
    "subscriptions",
    "invoices",
    "payment_methods",
    "audit_logs",
    "ai_operation_logs",
    "security_events",
)
"""Tables that may have been there before us; then what others may do with them is not ours to say."""
_PASSED_BY: Final = 160_000  # from this version of the server on, inheriting belongs to the membership

# Of tables, with their columns and sequences: all that those have who are not ours, and what no policy stands before.
# Of functions: those that write with their owner's rights, where anybody may call them.
_EXCESS: Final = text("""
WITH own AS (
    SELECT c.oid, c.relacl FROM pg_class AS c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname = ANY (:tables)
        AND (c.relname <> ALL (:platform) OR obj_description(c.oid, 'pg_class') = 'made by Fourlane')
), things AS (
    SELECT 'TABLE' AS kind, oid::regclass::text AS name, relacl AS acl FROM own
    UNION ALL
    SELECT 'TABLE', own.oid::regclass::text, a.attacl FROM own JOIN pg_attribute AS a ON a.attrelid = own.oid
    UNION ALL
    SELECT 'SEQUENCE', c.oid::regclass::text, c.relacl FROM own
    JOIN pg_depend AS d ON d.refobjid = own.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    JOIN pg_class AS c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass AND c.relkind = 'S'
    UNION ALL
    SELECT 'FUNCTION', p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner)) FROM pg_proc AS p
    WHERE p.pronamespace = 'public'::regnamespace AND p.prosecdef AND p.provolatile = 'v'
        AND p.prorettype <> 'trigger'::regtype AND (p.proname = 'enqueue_job' OR starts_with(p.proname, 'fourlane_'))
)
SELECT things.kind, things.name, coalesce(r.rolname, 'PUBLIC') AS role,
    array_agg(DISTINCT g.privilege_type ORDER BY g.privilege_type) AS verbs
FROM things CROSS JOIN LATERAL aclexplode(things.acl) AS g LEFT JOIN pg_roles AS r ON r.oid = g.grantee
WHERE g.grantee = 0 OR r.rolname = 'anon' OR r.rolname = 'authenticated' AND things.kind <> 'FUNCTION'
    OR r.rolname IN ('fourlane_worker', 'fourlane_web')
        AND g.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN')
GROUP BY things.kind, things.name, r.rolname ORDER BY 1, 2, 3
""")
_OPEN: Final = text("""
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relname = ANY (:tables) AND NOT relrowsecurity ORDER BY relname
""")
# Who made a role is a member of it, to give it on.
_IN_VAIN: Final = text("""
SELECT member.rolname AS member, given.rolname AS given FROM pg_auth_members AS m
JOIN pg_roles AS member ON member.oid = m.member JOIN pg_roles AS given ON given.oid = m.roleid
WHERE given.rolname IN ('fourlane_worker', 'fourlane_web') AND NOT m.admin_option
    AND NOT pg_has_role(member.oid, given.oid, 'USAGE')
ORDER BY 1, 2
""")


@dataclass(frozen=True, slots=True)
class Excess:
    """Rights that a role should not have."""

    kind: str
    name: str
    role: str
    verbs: tuple[str, ...]

    @property
    def revoke(self) -> str:
        """The statement that takes them away."""
        role = self.role if self.role == "PUBLIC" else f'"{self.role}"'
        return f"REVOKE {', '.join(self.verbs)} ON {self.kind} {self.name} FROM {role}"


def excess(connection: Connection) -> list[Excess]:
    """What roles have that they should not. Nothing on SQLite, which has no roles."""
    if connection.dialect.name != "postgresql":
        return []
    rows = connection.execute(_EXCESS, {"tables": _tables(), "platform": list(PLATFORM)})
    return [Excess(row.kind, row.name, row.role, tuple(row.verbs)) for row in rows]


def take_away(connection: Connection) -> None:
    """Take it from them."""
    for found in excess(connection):
        connection.exec_driver_sql(found.revoke)


def faults(connection: Connection) -> list[str]:
    """What is wrong with rights, a line each, with what to do."""
    if connection.dialect.name != "postgresql":
        return []
    lines = [
        f"{found.role} may {', '.join(found.verbs)} on the {found.kind.lower()} {found.name}; "
        "run `fourlane db migrate` as its owner"
        for found in excess(connection)
    ]
    lines += [
        f"the table {name} has no row-level security; run ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"
        for name in connection.scalars(_OPEN, {"tables": _tables()})
    ]
    return lines + [_in_vain(connection, row) for row in connection.execute(_IN_VAIN)]


def _in_vain(connection: Connection, row: Any) -> str:
    version = connection.connection.driver_connection.server_version  # type: ignore[union-attr]
    inherit = f"GRANT {row.given} TO {row.member} WITH INHERIT TRUE"
    if version < _PASSED_BY:
        inherit = f"ALTER ROLE {row.member} INHERIT"
    return f"the role {row.member} does not inherit the rights of {row.given}, and has none of them; run {inherit}"


def _tables() -> list[str]:
    return list(Base.metadata.tables)
