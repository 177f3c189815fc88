"""The rows of ``ai_operation_logs``: written once for each id, and their sum."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from fourlane.db.engine import Database, unavailable
from fourlane.db.models import AiOperationLog
from fourlane.errors import DatabaseUnavailable

__all__ = ["spent", "write"]

_MOST_MS: Final = 2_000


def write(database: Database, columns: Mapping[str, Any]) -> None:
    """Add one, once for each id. Raises DatabaseUnavailable."""
    try:
        try:
            _add(database, columns)
        except IntegrityError:  # the tenant is no organization of the database
            _add(database, {**columns, "organization_id": None})
    except DatabaseUnavailable:
        raise
    except Exception as error:
        raise unavailable(error) from error


def _add(database: Database, columns: Mapping[str, Any]) -> None:
    with database.begin() as session:
        if database.dialect == "postgresql":  # a table that is locked is not waited for
            session.execute(text(f"SET LOCAL lock_timeout = {_MOST_MS}; SET LOCAL statement_timeout = {_MOST_MS}"))
        if session.get(AiOperationLog, columns["id"]) is None:
            session.add(AiOperationLog(**columns))


def spent(database: Database, period: str) -> dict[str | None, int]:
    """Billionths of a dollar by tenant (None: no tenant) in a day or month like ``2026-11``.

    Raises DatabaseUnavailable.
    """
    first, end = _bounds(period)
    whose = AiOperationLog.tenant
    wanted = select(whose, func.sum(AiOperationLog.cost_micro_usd)).group_by(whose)
    wanted = wanted.where(AiOperationLog.created_at >= first, AiOperationLog.created_at < end)
    try:
        with database.session() as session:
            return {tenant: int(micro * 1_000) for tenant, micro in session.execute(wanted)}
    except DatabaseUnavailable:
        raise
    except Exception as error:
        raise unavailable(error) from error


def _bounds(period: str) -> tuple[datetime, datetime]:
    if len(period) > len("2026-11"):
        first = date.fromisoformat(period)
        end = first + timedelta(days=1)
    else:
        first = date.fromisoformat(f"{period}-01")
        end = (first + timedelta(days=31)).replace(day=1)
    return datetime(first.year, first.month, first.day, tzinfo=UTC), datetime(end.year, end.month, end.day, tzinfo=UTC)
