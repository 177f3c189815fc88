"""Deletes rows that need not be kept any longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy import Connection, CursorResult, Table, delete, or_, select

from fourlane.db.models import JobOutbox

__all__ = ["AT_ONCE", "purge"]

AT_ONCE: Final = 10_000
_KEEP_FAILED_DAYS: Final = 30

_rows = cast("Table", JobOutbox.__table__)


def purge(connection: Connection, keep_seconds: int) -> int:
    """Delete some, at most ``AT_ONCE``; returns how many. ``keep_seconds``: those that were relayed."""
    moment = datetime.now(UTC)
    old = (
        select(_rows.c.position)
        .where(
            or_(
                _rows.c.relayed_at < moment - timedelta(seconds=keep_seconds),
                _rows.c.failed_at < moment - timedelta(days=_KEEP_FAILED_DAYS),
            )
        )
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    gone: CursorResult[Any] = connection.execute(delete(_rows).where(_rows.c.position.in_(old)))
    return gone.rowcount
