"""Files in the database's table ``stored_files``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from sqlalchemy import delete, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from fourlane.db.engine import Database, unavailable
from fourlane.db.models import StoredFile, now
from fourlane.db.statements import changed_by, insert_into
from fourlane.errors import DatabaseUnavailable, StorageUnavailable
from fourlane.storage.store import Storage, Stored

__all__ = ["DatabaseStorage"]

_PRUNED_AT_ONCE: Final = 200  # SQLite has one writer, and files are large


class DatabaseStorage(Storage):
    """Keeps files in a table."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database

    def __str__(self) -> str:
        return str(self._database)

    def _write(self, name: str, data: bytes, media_type: str) -> None:
        with self._begin() as session:
            new = insert_into(session)(StoredFile).values(name=name, data=data, media_type=media_type)
            put = {"data": new.excluded.data, "media_type": new.excluded.media_type, "stored_at": now()}
            session.execute(new.on_conflict_do_update(index_elements=["name"], set_=put))

    def _read(self, name: str) -> Stored | None:
        with self._begin() as session:
            row = session.execute(select(StoredFile.data, StoredFile.media_type).where(StoredFile.name == name)).first()
        return None if row is None else Stored(bytes(row.data), row.media_type)

    def _remove(self, name: str) -> None:
        with self._begin() as session:
            session.execute(delete(StoredFile).where(StoredFile.name == name))

    def prune(self, older_than: datetime) -> int:
        gone = 0
        while some := self._prune_some(older_than):
            gone += some
        return gone

    def _prune_some(self, older_than: datetime) -> int:
        is_old = StoredFile.stored_at < older_than
        with self._begin() as session:
            if not inspect(session.connection()).has_table(StoredFile.__tablename__):  # nothing was ever put
                return 0
            some = select(StoredFile.name).where(is_old).limit(_PRUNED_AT_ONCE)
            return changed_by(session.execute(delete(StoredFile).where(StoredFile.name.in_(some), is_old)))

    @contextmanager
    def _begin(self) -> Iterator[Session]:
        try:
            with self._database.begin() as session:
                yield session
        except DatabaseUnavailable as error:
            raise StorageUnavailable(f"files in the {error}") from error
        except SQLAlchemyError as error:
            raise StorageUnavailable(f"files in the {unavailable(error)}") from error
