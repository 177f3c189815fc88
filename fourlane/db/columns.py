"""Column types that mean the same on PostgreSQL and SQLite."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, LargeBinary, Numeric
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from fourlane import crypto

__all__ = ["Encrypted", "Json", "Thousandths", "Timestamp"]

Json = JSON().with_variant(postgresql.JSONB(), "postgresql")
"""A JSON document. On PostgreSQL jsonb, so that it can be searched."""


class Timestamp(TypeDecorator[datetime]):
    """A moment, with its time zone; SQLite keeps it as UTC. One without a zone is refused: nobody knows when it is."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        kind: type[DateTime] = sqlite.DATETIME if dialect.name == "sqlite" else DateTime
        return dialect.type_descriptor(kind(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; use datetime.now(UTC)")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Thousandths(TypeDecorator[Decimal]):
    """A number with three places. SQLite, which has no exact ones, keeps it as it keeps any number."""

    impl = Numeric(20, 3)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(BigInteger() if dialect.name == "sqlite" else Numeric(20, 3))

    def process_bind_param(self, value: Decimal | int | None, dialect: Dialect) -> Any:
        return float(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return None if value is None else round(Decimal(str(value)), 3)


class Encrypted(TypeDecorator[str]):
    """Text that the database holds only encrypted (fourlane/crypto.py), for personal data and secrets.

    It cannot be searched or compared by the database.

    Parameters:
      context: ``table.column``. A value moved into another column does not decrypt there.
    """

    impl = LargeBinary
    cache_ok = True

    def __init__(self, context: str) -> None:
        super().__init__()
        self.context = context

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else crypto.keyring().encrypt(value.encode(), self.context)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else crypto.keyring().decrypt(bytes(value), self.context).decode()
