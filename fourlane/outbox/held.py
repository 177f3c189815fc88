"""Jobs that are not due for long wait in the table: there quotas count them, and in Redis they would take up memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    CursorResult,
    DateTime,
    Float,
    Table,
    bindparam,
    func,
    select,
    update,
)
from sqlalchemy import cast as as_type
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from fourlane.db.models import JobOutbox

__all__ = ["AT_ONCE", "NEAR_SECONDS", "Early", "hold", "near_since", "release", "until_ms"]

NEAR_SECONDS: Final = 3_600
"""What is due sooner goes to Redis, which knows the moment: no relay need be there then."""
AT_ONCE: Final = 1_000

_rows = cast("Table", JobOutbox.__table__)


class near_since(FunctionElement[Any]):
    """From when on a row of these ``created_at`` and ``run_at`` had to be relayed, as `moment_of` tells moments."""

    type = Float()
    inherit_cache = True


@compiles(near_since, "postgresql")
def _near_postgresql(element: near_since, compiler: Any, **given: Any) -> str:
    created_at, run_at = (compiler.process(clause, **given) for clause in element.clauses)
    near = f"date_part('epoch', {run_at}) - {NEAR_SECONDS}"  # a number: moments near their end have no hour before
    return f"(greatest(date_part('epoch', {created_at}), {near}) * 1000)"


@compiles(near_since, "sqlite")
def _near_sqlite(element: near_since, compiler: Any, **given: Any) -> str:
    created_at, run_at = (compiler.process(clause, **given) for clause in element.clauses)
    near = f"strftime('%Y-%m-%d %H:%M:%f000', {run_at}, '-{NEAR_SECONDS} seconds')"
    return f"CAST(max({created_at}, coalesce({near}, {created_at})) AS TEXT)"


class Early(NamedTuple):
    """A row that is held, and until when (milliseconds since the epoch)."""

    position: int
    until_ms: int


def until_ms(due_ms: int, now_ms: int) -> int | None:
    """Until when a job that is due then is held; None: it is near."""
    near_ms = due_ms - NEAR_SECONDS * 1000
    return near_ms if near_ms > now_ms else None


def hold(connection: Connection, rows: Sequence[Early]) -> None:
    """Take rows out of what relays look at."""
    if not rows:
        return
    moments = [datetime.fromtimestamp(row.until_ms / 1000, UTC) for row in rows]
    if connection.dialect.name == "postgresql":  # one statement: its driver would send one for each row
        positions = as_type([row.position for row in rows], ARRAY(BigInteger))
        untils = as_type(moments, ARRAY(DateTime(timezone=True)))
        early = func.unnest(positions, untils).table_valued("position", "until", name="early").render_derived()
        connection.execute(update(_rows).where(_rows.c.position == early.c.position).values(held_until=early.c.until))
    else:
        one = update(_rows).where(_rows.c.position == bindparam("place")).values(held_until=bindparam("until"))
        connection.execute(
            one, [{"place": row.position, "until": until} for row, until in zip(rows, moments, strict=True)]
        )


def release(connection: Connection) -> int:
    """Give rows back that are near by now, at most ``AT_ONCE``; returns how many."""
    near = (
        select(_rows.c.position)
        .where(_rows.c.held_until <= datetime.now(UTC))
        .order_by(_rows.c.held_until)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    released: CursorResult[Any] = connection.execute(
        update(_rows).where(_rows.c.position.in_(near)).values(held_until=None)
    )
    return released.rowcount
