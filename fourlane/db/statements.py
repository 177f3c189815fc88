"""What SQLAlchemy leaves to each database, and to each driver."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

__all__ = ["changed_by", "insert_into"]


def insert_into(session: Session) -> Any:
    """An ``insert`` that knows ON CONFLICT."""
    dialect = session.get_bind().dialect.name
    return postgresql.insert if dialect == "postgresql" else sqlite.insert


def changed_by(result: Any) -> int:
    """How many rows a statement changed."""
    return int(result.rowcount)
