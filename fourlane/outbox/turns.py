"""Which rows come next: those of all organizations in turns, however many one of them has waiting.

Only numbers are read here, so that nothing in a row can keep the others from being found.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Table,
    Uuid,
    and_,
    func,
    or_,
    select,
    text,
    true,
)
from sqlalchemy import cast as as_type
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from fourlane.db.models import JobOutbox

__all__ = ["PENDING", "SIZE", "Place", "Turns", "among", "byte_length"]

_ORDERED_LOCK: Final = 0x6F7264657265640A
_MOST_LANES: Final = 100

_rows = cast("Table", JobOutbox.__table__)
_owner = _rows.c.organization_id
PENDING: Final = (_rows.c.relayed_at.is_(None), _rows.c.failed_at.is_(None), _rows.c.held_until.is_(None))


class byte_length(FunctionElement[int]):
    """Of a text, without reading it."""

    type = BigInteger()
    inherit_cache = True


@compiles(byte_length, "postgresql")
def _length_postgresql(element: byte_length, compiler: Any, **given: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **given)})"


@compiles(byte_length, "sqlite")
def _length_sqlite(element: byte_length, compiler: Any, **given: Any) -> str:
    return f"length(CAST({compiler.process(element.clauses, **given)} AS BLOB))"


SIZE: Final = byte_length(_rows.c.args) + byte_length(_rows.c.kwargs) + byte_length(_rows.c.options)


class Place(NamedTuple):
    """A row that is locked, and how many bytes a job it has."""

    position: int
    size: int


def among(dialect: str, positions: Collection[int]) -> ColumnElement[bool]:
    """Rows at these positions."""
    if dialect == "postgresql" and positions:  # one parameter and not hundreds; most lie side by side in the index
        one_of = _rows.c.position == func.any(as_type(list(positions), ARRAY(BigInteger)))
        return and_(_rows.c.position.between(min(positions), max(positions)), one_of)
    return _rows.c.position.in_(positions)


class Turns:
    """What one relay takes, batch by batch.

    While a batch takes all that waits, it goes by position. When one was full, others may wait behind it: then each
    organization gets an equal share of the next, in the order of its own positions; rows of none are one more. That is
    asked of PostgreSQL only: SQLite has no strangers.
    """

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        self._crowded = False
        self._after: uuid.UUID | None = None

    def take(
        self, connection: Connection, most: int, *, blocked: Collection[str] = (), aside: Collection[int] = ()
    ) -> list[Place]:
        """Lock up to ``most`` rows that wait, in their order.

        Parameters:
          blocked: services whose rows are left.
          aside: positions that are left.
        """
        query = self._waiting(blocked, aside)
        if not self._crowded:
            found = connection.execute(query.limit(most)).all()
            self._crowded = self._dialect == "postgresql" and len(found) == most
        else:
            found = self._in_turns(connection, query, most)
        return [Place(row.position, row.size) for row in found]

    def _waiting(self, blocked: Collection[str], aside: Collection[int]) -> Select[Any]:
        query = select(_rows.c.position, SIZE.label("size")).where(*PENDING).order_by(_rows.c.position)
        if blocked:
            query = query.where(_rows.c.service.not_in(list(blocked)))
        if aside:
            query = query.where(_rows.c.position.not_in(list(aside)))
        if self._dialect == "postgresql":
            # Uncorrelated, so that it is asked once, and only when a row has a key.
            mine = text(f"(SELECT pg_try_advisory_xact_lock({_ORDERED_LOCK}))")
            query = query.where(or_(_rows.c.order_key.is_(None), mine)).with_for_update(skip_locked=True)
        return query

    def _in_turns(self, connection: Connection, query: Select[Any], most: int) -> Sequence[Any]:
        lanes = self._lanes(connection, min(most, _MOST_LANES))
        if not lanes:
            self._crowded = False
            return []
        share = max(1, most // len(lanes))
        found: list[Any] = []
        organizations = [lane for lane in lanes if lane is not None]
        if organizations:
            lane = func.unnest(as_type(organizations, ARRAY(Uuid()))).column_valued("lane")
            own = query.where(_owner == lane).limit(share).lateral("own")
            found += connection.execute(select(lane.label("lane"), own.c.position, own.c.size).join(own, true()))
        if None in lanes:
            found += connection.execute(query.add_columns(_owner.label("lane")).where(_owner.is_(None)).limit(share))
        full = max(Counter(row.lane for row in found).values(), default=0) >= share
        self._crowded = full or self._after is not None
        return sorted(found, key=lambda row: row.position)

    def _lanes(self, connection: Connection, most: int) -> list[uuid.UUID | None]:
        """The organizations that come next; None stands for rows of none, after the last of them."""
        after, self._after = self._after, None
        found: list[uuid.UUID | None] = list(connection.scalars(_organizations(after).limit(most)))
        if len(found) == most:
            self._after = found[-1]
        elif connection.scalar(_of_nobody()) is not None:
            found.append(None)
        if not found and after is not None:
            return self._lanes(connection, most)
        return found


def _of_nobody() -> Select[tuple[int]]:
    """Ordered so that the index of organizations is gone by."""
    return select(_rows.c.position).where(*PENDING, _owner.is_(None)).order_by(_owner, _rows.c.position).limit(1)


def _organizations(after: uuid.UUID | None) -> Select[tuple[uuid.UUID]]:
    """Those that have rows waiting, from one to the next by the index: what each has waiting costs nothing."""
    first = select(_owner).where(*PENDING, _owner.is_not(None))
    if after is not None:
        first = first.where(_owner > after)
    lanes = select(first.order_by(_owner).limit(1).scalar_subquery().label("id")).cte("lanes", recursive=True)
    following = select(_owner).where(*PENDING, _owner > lanes.c.id).order_by(_owner).limit(1).scalar_subquery()
    lanes = lanes.union_all(select(following).where(lanes.c.id.is_not(None)))
    return select(lanes.c.id).where(lanes.c.id.is_not(None))
