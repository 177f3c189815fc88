"""Two rows for every table that there is, one of each of two organizations, made of what the models say."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Boolean, Column, Connection, LargeBinary, Table, Text, cast, insert, literal, types

from fourlane.db.columns import Encrypted
from fourlane.db.models import Base

__all__ = ["ACME", "ANN", "BIRD", "BOB", "plant"]

# Fixed, because they are in the names of tests, which must be the same in each process.
ANN, BOB, ACME, BIRD = (uuid.UUID(int=n) for n in range(1, 5))
_MOMENT: Final = datetime(2026, 1, 1, tzinfo=UTC)
_MEANT: Final[dict[str, Any]] = {"job_outbox.task": "resize", "job_outbox.service": "images"}
"""What a table's own checks want to have."""


def plant(connection: Connection) -> None:
    """Ann's row in Acme, Bob's in Bird, in each table."""
    for user, organization in ((ANN, ACME), (BOB, BIRD)):
        keys: dict[str, Any] = {"organizations.id": organization}
        for table in Base.metadata.sorted_tables:
            if table.name == "schema_versions":
                continue  # has rows
            values = {
                column.name: value
                for column in table.columns
                if (value := _value(column, user, keys, table)) is not None
            }
            made = connection.execute(insert(table).values(values).returning(*table.primary_key)).one()
            keys |= {f"{table.name}.{key.name}": made[n] for n, key in enumerate(table.primary_key)}


def _value(column: Column[Any], user: uuid.UUID, keys: dict[str, Any], table: Table) -> Any:
    """None where the database or nobody says."""
    name = f"{table.name}.{column.name}"
    if name in _MEANT:
        return _MEANT[name]
    if name == "organizations.id" or column.name == "organization_id":
        return keys["organizations.id"]
    if column.name in ("user_id", "created_by"):
        return user
    for key in column.foreign_keys:
        return keys.get(key.target_fullname) if not column.nullable else None
    if column.nullable or column.server_default is not None or column.identity is not None:
        return None
    return _of_type(column, user)


def _of_type(column: Column[Any], user: uuid.UUID) -> Any:
    kind = column.type
    if isinstance(kind, Encrypted | LargeBinary):
        return cast(literal(user.bytes, LargeBinary()), LargeBinary())
    if isinstance(kind, types.Uuid):
        return uuid.uuid4()
    if isinstance(kind, Boolean):
        return True
    if isinstance(kind, types.Integer):
        return int(user)
    if isinstance(kind, Text | types.String):
        return f"{column.name} of {int(user)}"
    if isinstance(kind, types.JSON):
        return {"of": int(user)}
    return _MOMENT
