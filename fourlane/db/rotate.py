"""Encrypts columns anew after a new key came in front of the others."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

from sqlalchemy import Column, Connection, LargeBinary, Table, and_, delete, func, select, type_coerce, update
from sqlalchemy.exc import DBAPIError

from fourlane import crypto
from fourlane.db.columns import Encrypted
from fourlane.db.engine import Database, unavailable
from fourlane.db.marks import address_marks
from fourlane.db.models import Base
from fourlane.db.models import NotificationSuppression as Suppressed

__all__ = ["rotate_keys"]

_ROWS = 500
_MARKS: Final = "notification_suppressions.address_mark"


def rotate_keys(database: Database) -> dict[str, int]:
    """Encrypt with the newest key whatever an older one encrypted, some rows in each transaction.

    Suppressed addresses, which are found by a mark of a key, get the newest key's mark.

    Returns how many values were encrypted or marked anew, by ``table.column``.

    Raises:
      EncryptionError: the key of a value is missing; what was done before stays done.
      DatabaseUnavailable
    """
    rotated: dict[str, int] = {}
    try:
        for table, column, context in _encrypted():
            rotated[context] = 0
            while True:
                with database.engine.begin() as connection:
                    some = _rotate_some(connection, table, column, context)
                if not some:
                    break
                rotated[context] += some
        rotated[_MARKS] = _mark_all(database)
    except DBAPIError as error:
        raise unavailable(error) from error
    return rotated


def _mark_all(database: Database) -> int:
    after, marked = None, 0
    while True:
        with database.engine.begin() as connection:
            after, some = _mark_some(connection, after)
        marked += some
        if after is None:
            return marked


def _encrypted() -> Iterator[tuple[Table, Column[str], str]]:
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, Encrypted):
                yield table, column, column.type.context


def _rotate_some(connection: Connection, table: Table, column: Column[str], context: str) -> int:
    ring = crypto.keyring()
    sealed = type_coerce(column, LargeBinary())
    old = func.substr(sealed, 1, len(ring.current_prefix), type_=LargeBinary()) != ring.current_prefix
    key = list(table.primary_key)
    rows = connection.execute(select(*key, sealed).where(column.is_not(None), old).limit(_ROWS)).all()
    for row in rows:
        value = bytes(row[-1])
        anew = ring.encrypt(ring.decrypt(value, context), context)
        same = and_(*(part == found for part, found in zip(key, row, strict=False)), sealed == value)
        connection.execute(update(table).where(same).values({column: type_coerce(anew, LargeBinary())}))
    return len(rows)


def _mark_some(connection: Connection, after: uuid.UUID | None) -> tuple[uuid.UUID | None, int]:
    """Find suppressed addresses by the newest key's marks. Returns where to go on, None at the end, and how many."""
    wanted = (
        Suppressed.id,
        Suppressed.tenant,
        Suppressed.channel,
        Suppressed.category,
        Suppressed.address_mark,
        Suppressed.address,
    )
    query = select(*wanted).order_by(Suppressed.id).limit(_ROWS)
    rows = connection.execute(query if after is None else query.where(Suppressed.id > after)).all()
    marked = 0
    for row in rows:
        newest = address_marks(row.channel, row.address)[0]
        if newest == row.address_mark:
            continue
        twin = select(Suppressed.id).where(
            Suppressed.tenant == row.tenant,
            Suppressed.channel == row.channel,
            Suppressed.category == row.category,
            Suppressed.address_mark == newest,
        )
        if connection.execute(twin).first() is None:
            connection.execute(update(Suppressed).where(Suppressed.id == row.id).values(address_mark=newest))
        else:  # it was suppressed again under the newest key
            connection.execute(delete(Suppressed).where(Suppressed.id == row.id))
        marked += 1
    return (rows[-1].id if len(rows) == _ROWS else None), marked
