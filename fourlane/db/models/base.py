"""What all tables are made of, and the table of the schema itself."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Integer, LargeBinary, Text, Uuid
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.expression import FunctionElement

from fourlane.db.columns import Json, Timestamp

__all__ = ["Base", "SchemaVersion", "WithCreation", "WithId", "WithUpdate", "now", "organization"]


class now(FunctionElement[datetime]):
    """The database's clock."""

    type = Timestamp()
    inherit_cache = True


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: Any, **_: Any) -> str:
    return "now()"


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: Any, **_: Any) -> str:
    return "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))"


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy's own protocol)
        str: Text(),
        int: BigInteger(),
        bytes: LargeBinary(),
        datetime: Timestamp(),
        uuid.UUID: Uuid(),
        dict[str, Any]: Json,
        list[Any]: Json,
    }


class WithId:
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4, sort_order=-1)


class WithCreation:
    created_at: Mapped[datetime] = mapped_column(server_default=now(), sort_order=1)


class WithUpdate(WithCreation):
    updated_at: Mapped[datetime] = mapped_column(server_default=now(), onupdate=now(), sort_order=2)


def organization(*, nullable: bool = False) -> Any:
    """Whose row it is: it goes with the organization."""
    return mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), nullable=nullable, index=True)


class SchemaVersion(Base):
    """A migration that was applied (fourlane/db/migrate.py)."""

    __tablename__ = "schema_versions"

    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    description: Mapped[str | None]
    applied_at: Mapped[datetime | None]
    applied_by: Mapped[str | None]
    checksum: Mapped[str | None]
    rollback_sql: Mapped[str | None]
