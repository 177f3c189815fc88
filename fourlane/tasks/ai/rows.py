"""The rows of ``ai_operation_logs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fourlane.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from fourlane.db.engine import Database

__all__ = ["write_row"]


def write_row(database: Database, row: dict[str, Any]) -> None:
    """Add one, once for each id. Raises DatabaseUnavailable."""
    from fourlane.db.engine import unavailable
    from fourlane.db.models import AiOperationLog

    try:
        with database.begin() as session:
            if session.get(AiOperationLog, row["id"]) is None:
                session.add(AiOperationLog(**row))
    except DatabaseUnavailable:
        raise
    except Exception as error:  # e.g. an organization that is none
        raise unavailable(error) from error
