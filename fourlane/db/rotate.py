"""Encrypts columns anew after a new key came in front of the others."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Column, Connection, LargeBinary, Table, and_, func, select, type_coerce, update
from sqlalchemy.exc import DBAPIError

from fourlane import crypto
from fourlane.db.columns import Encrypted
from fourlane.db.engine import Database, unavailable
from fourlane.db.models import Base

__all__ = ["rotate_keys"]

_ROWS = 500


def rotate_keys(database: Database) -> dict[str, int]:
    """Encrypt with the newest key whatever an older one encrypted, some rows in each transaction.

    Returns how many values were encrypted anew, by ``table.column``.

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
    except DBAPIError as error:
        raise unavailable(error) from error
    return rotated


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
