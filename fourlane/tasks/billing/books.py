"""Our side of a reconciliation: the rows that are compared, and the record of runs and findings."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import and_, delete, func, null, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fourlane.db.engine import Database
from fourlane.db.models import (
    CreditTransaction,
    Invoice,
    ReconciliationFinding,
    ReconciliationRun,
    ReconciliationSeen,
    Subscription,
)
from fourlane.errors import FourlaneError
from fourlane.providers.payments import Entry, Period
from fourlane.tasks.billing.differences import Finding, Ours, Seen

__all__ = ["ROWS", "TABLES", "Progress", "RunTaken", "findings", "open_run"]

ROWS: Final = 500
"""Rows of a page of ours."""
TABLES: Final = {"paypal": ("credit_transactions",)}
ALL_TABLES: Final = ("credit_transactions", "invoices", "subscriptions")
_TRIES: Final = 5
_RESUMABLE: Final = timedelta(days=1)  # later, the beginning of the run is no longer what the provider says


class RunTaken(FourlaneError):
    """Another process goes on with this run."""


@dataclass(slots=True)
class Progress:
    """A run, and how far it got."""

    id: uuid.UUID
    pages: int
    cursor: dict[str, Any]
    started_at: datetime
    resumed: bool


def open_run(database: Database, provider: str, period: Period, *, now: datetime) -> Progress:
    """Go on with the run of this period that did not end, or begin one."""
    for _ in range(_TRIES):
        try:
            return _take_up(database, provider, period, now) or _begin(database, provider, period, now)
        except IntegrityError:  # another process began one in this moment
            pass
    raise RunTaken("others begin this reconciliation again and again; wait until they are done")


def _take_up(database: Database, provider: str, period: Period, now: datetime) -> Progress | None:
    same = and_(
        ReconciliationRun.provider == provider,
        ReconciliationRun.period_start == period.start,
        ReconciliationRun.period_end == period.end,
        ReconciliationRun.status.in_(("running", "failed")),
        ReconciliationRun.finished_at.is_(None),
    )
    with database.begin() as session:
        left = session.scalars(select(ReconciliationRun).where(same).order_by(ReconciliationRun.started_at)).all()
        for run in left:
            if run.started_at > now - _RESUMABLE:
                run.status = "running"
                return Progress(run.id, run.pages, dict(run.cursor), run.started_at, resumed=True)
            run.status, run.finished_at = "failed", now
            session.connection().execute(delete(ReconciliationSeen).where(ReconciliationSeen.run_id == run.id))
    return None


def _begin(database: Database, provider: str, period: Period, now: datetime) -> Progress:
    with database.begin() as session:
        made = ReconciliationRun(
            provider=provider,
            period_start=period.start,
            period_end=period.end,
            status="running",
            cursor={},
            started_at=now,
        )
        session.add(made)
        session.flush()
        return Progress(made.id, 0, {}, now, resumed=False)


def advance(session: Session, run: Progress, cursor: dict[str, Any], *, compared: int) -> None:
    """Put the cursor forward, in the transaction that stores what the page brought.

    Raises RunTaken when another process has put it forward meanwhile.
    """
    done = session.execute(
        update(ReconciliationRun)
        .where(
            ReconciliationRun.id == run.id,
            ReconciliationRun.pages == run.pages,
            ReconciliationRun.status == "running",
        )
        .values(pages=run.pages + 1, cursor=cursor, compared=ReconciliationRun.compared + compared, error=None)
    )
    if changed_by(done) != 1:
        raise RunTaken("another process goes on with this reconciliation; wait until it is done")


def mark(run: Progress, cursor: dict[str, Any]) -> None:
    """After the commit."""
    run.pages += 1
    run.cursor = cursor


def fail(database: Database, run: Progress, error: str, *, final: bool) -> None:
    """Note why a run stopped; it can be taken up again."""
    status = "failed" if final else "running"
    with database.begin() as session:
        session.execute(
            update(ReconciliationRun).where(ReconciliationRun.id == run.id).values(error=error, status=status)
        )


def finish(session: Session, run: Progress, provider: str, period: Period, *, now: datetime) -> None:
    """End a run: what it no longer found in its period is resolved, and what it remembered is dropped."""
    # Of another run that was under way at the same time (a month beside one of its days) nothing is known here.
    before = select(ReconciliationRun.id).where(
        or_(
            ReconciliationRun.finished_at < run.started_at,
            and_(
                ReconciliationRun.finished_at.is_(None),
                ReconciliationRun.started_at < run.started_at - _RESUMABLE,
            ),
        )
    )
    # Past the ORM, here and below, which would first fetch what is changed.
    session.connection().execute(
        update(ReconciliationFinding)
        .where(
            ReconciliationFinding.provider == provider,
            or_(
                and_(
                    ReconciliationFinding.occurred_at >= period.start,
                    ReconciliationFinding.occurred_at < period.end,
                ),
                # Every run looks at all subscriptions.
                ReconciliationFinding.details["object"].as_string() == "subscription",
            ),
            ReconciliationFinding.resolved_at.is_(None),
            or_(ReconciliationFinding.last_run_id.is_(None), ReconciliationFinding.last_run_id.in_(before)),
        )
        .values(resolved_at=now)
    )
    found = session.scalar(
        select(func.count()).select_from(ReconciliationFinding).where(ReconciliationFinding.last_run_id == run.id)
    )
    # Also what runs remember that stopped, and that nobody took up in time.
    forgotten = select(ReconciliationRun.id).where(ReconciliationRun.started_at < now - _RESUMABLE)
    seen_by = ReconciliationSeen.run_id
    session.connection().execute(delete(ReconciliationSeen).where(or_(seen_by == run.id, seen_by.in_(forgotten))))
    session.execute(
        update(ReconciliationRun)
        .where(ReconciliationRun.id == run.id)
        .values(status="done", found=found, finished_at=now, cursor={"phase": "done"})
    )


# --- What the provider has -------------------------------------------------------------------------


def remember(session: Session, run: Progress, entries: Iterable[Entry]) -> int:
    """Note entries as seen. Returns how many are new to the run."""
    rows = {
        (entry.object, entry.ref): {
            "run_id": run.id,
            "object": entry.object,
            "ref": entry.ref,
            "alias": entry.alias or None,
            "payment": entry.group or None if entry.status == "succeeded" else None,
            "amount_minor": entry.amount_minor,
            "currency": entry.currency,
            "status": entry.status,
            "at": entry.at,
        }
        for entry in entries
    }
    if not rows:
        return 0
    known = session.connection().execute(
        select(ReconciliationSeen.object, ReconciliationSeen.ref).where(
            ReconciliationSeen.run_id == run.id,
            # Both columns of the key: by the id alone SQLite reads all that the run has seen.
            ReconciliationSeen.object.in_({object_ for object_, _ in rows}),
            ReconciliationSeen.ref.in_({ref for _, ref in rows}),
        )
    )
    for object_, ref in known:
        rows.pop((object_, ref), None)
    if rows:
        made = insert_into(session)(ReconciliationSeen.__table__).on_conflict_do_nothing()
        session.connection().execute(made, list(rows.values()))
    return len(rows)


def seen(session: Session, run: Progress, refs: Iterable[str]) -> dict[str, list[Seen]]:
    """What the run saw under these ids."""
    found: dict[str, list[Seen]] = {}
    query = select(ReconciliationSeen).where(ReconciliationSeen.run_id == run.id, ReconciliationSeen.ref.in_(set(refs)))
    for row in session.scalars(query):
        found.setdefault(row.ref, []).append(_seen(row))
    return found


def unseen(session: Session, run: Progress, refs: Iterable[str]) -> set[str]:
    """Of these ids, those that the run saw neither as an id nor as another id of something."""
    left = set(refs)
    for column in (ReconciliationSeen.ref, ReconciliationSeen.alias):
        if left:
            left -= set(
                session.connection().scalars(
                    select(column).where(ReconciliationSeen.run_id == run.id, column.in_(left))
                )
            )
    return left


def payments(session: Session, run: Progress, groups: Sequence[str]) -> dict[str, list[Seen]]:
    """Charges that succeeded, by the thing that they paid for, where there are several."""
    found: dict[str, list[Seen]] = {}
    if not groups:
        return found
    query = select(ReconciliationSeen).where(
        ReconciliationSeen.run_id == run.id,
        ReconciliationSeen.object == "charge",
        ReconciliationSeen.payment.in_(set(groups)),
    )
    for row in session.scalars(query):
        found.setdefault(row.payment or "", []).append(_seen(row))
    return {group: charges for group, charges in found.items() if len(charges) > 1}


def _seen(row: ReconciliationSeen) -> Seen:
    return Seen(row.object, row.ref, row.amount_minor, row.currency, row.status, row.at)


# --- What we have ----------------------------------------------------------------------------------


def by_refs(session: Session, provider: str, table: str, refs: Iterable[str]) -> dict[str, list[Ours]]:
    """Our rows by the provider's ids."""
    found: dict[str, list[Ours]] = {}
    if wanted := set(refs):
        shape = SHAPES[table]
        query = shape.query.where(shape.model.provider == provider, shape.ref.in_(wanted))
        for row in shape.read(session, query):
            found.setdefault(row.ref, []).append(row)
    return found


def page(
    session: Session, provider: str, table: str, period: Period, after: tuple[datetime, uuid.UUID] | None
) -> list[Ours]:
    """Our rows of a period, by time and id. Subscriptions live on: all that are older than its end."""
    shape = SHAPES[table]
    query = shape.query.where(shape.model.provider == provider, shape.at < period.end)
    if table != "subscriptions":
        query = query.where(shape.at >= period.start)
    if after is not None:
        query = query.where(shape.at >= after[0], or_(shape.at > after[0], shape.model.id > after[1]))
    return list(shape.read(session, query.order_by(shape.at, shape.model.id).limit(ROWS)))


class _Shape:
    """A table as far as it is compared: columns rather than objects, and past the ORM, for they are many."""

    def __init__(self, model: Any, ref: Any, amount: Any, paid: Any, at: Any) -> None:
        self.model, self.ref, self.at = model, ref, at
        self.table = model.__tablename__
        self.query = select(
            model.id,
            model.organization_id,
            func.coalesce(ref, "").label("ref"),
            amount.label("amount_minor"),
            paid.label("paid_minor"),
            model.currency,
            model.status,
            at.label("at"),
        )

    def read(self, session: Session, query: Any) -> Iterator[Ours]:
        for id, organization_id, ref, amount, paid, currency, status, at in session.connection().execute(query):
            yield Ours(
                table=self.table,
                id=id,
                organization_id=organization_id,
                ref=ref,
                amount_minor=amount,
                paid_minor=paid,
                currency=currency,
                status=status,
                at=at,
            )


SHAPES: Final = {
    "credit_transactions": _Shape(
        CreditTransaction,
        CreditTransaction.provider_transaction_id,
        CreditTransaction.amount_minor,
        null(),
        CreditTransaction.occurred_at,
    ),
    "invoices": _Shape(
        Invoice,
        Invoice.provider_invoice_id,
        Invoice.amount_due_minor,
        Invoice.amount_paid_minor,
        Invoice.issued_at,
    ),
    "subscriptions": _Shape(
        Subscription,
        Subscription.provider_subscription_id,
        Subscription.amount_minor,
        null(),
        Subscription.created_at,
    ),
}


# --- Findings --------------------------------------------------------------------------------------


def record(session: Session, run: Progress, found: Sequence[Finding]) -> None:
    """Store findings; one that an earlier run made is brought up to date, and is open again if it was resolved."""
    if not found:
        return
    rows = list({finding.fingerprint: _row(finding, run) for finding in found}.values())
    insert = insert_into(session)(ReconciliationFinding)
    kept = ("id", "run_id", "fingerprint", "created_at", "repaired_at", "repair")
    changed = {name: insert.excluded[name] for name in rows[0] if name not in kept} | {"resolved_at": None}
    session.execute(insert.on_conflict_do_update(index_elements=["fingerprint"], set_=changed), rows)


def _row(finding: Finding, run: Progress) -> dict[str, Any]:
    entry, ours = finding.entry, finding.ours
    moment = entry.at if entry is not None else ours.at if ours is not None else None
    return {
        "id": uuid.uuid4(),
        "run_id": run.id,
        "last_run_id": run.id,
        "organization_id": ours.organization_id if ours is not None else None,
        "provider": finding.provider,
        "kind": finding.kind,
        "fingerprint": finding.fingerprint,
        "provider_id": finding.ref or None,
        "our_table": ours.table if ours is not None else None,
        "our_id": ours.id if ours is not None else None,
        "provider_amount_minor": entry.amount_minor if entry is not None else None,
        "provider_currency": entry.currency if entry is not None else None,
        "provider_status": entry.status if entry is not None else None,
        "our_amount_minor": ours.amount_minor if ours is not None else None,
        "our_currency": ours.currency if ours is not None else None,
        "our_status": ours.status if ours is not None else None,
        "occurred_at": moment,
        "details": dict(finding.details) | {"object": finding.object},
    }


def findings(database: Database, run_id: uuid.UUID, *, rows: int = ROWS) -> Iterator[ReconciliationFinding]:
    """The findings that a run saw, in the order of their ids, read in pages."""
    after: uuid.UUID | None = None
    while True:
        query = select(ReconciliationFinding).where(ReconciliationFinding.last_run_id == run_id)
        if after is not None:
            query = query.where(ReconciliationFinding.id > after)
        with database.begin() as session:
            found = session.scalars(query.order_by(ReconciliationFinding.id).limit(rows)).all()
            session.expunge_all()
        yield from found
        if len(found) < rows:
            return
        after = found[-1].id


def run_of(database: Database, run_id: uuid.UUID) -> ReconciliationRun:
    """The run's row."""
    with database.begin() as session:
        run = session.get_one(ReconciliationRun, run_id)
        session.expunge(run)
        return run


def runs(database: Database, provider: str | None, limit: int) -> Sequence[ReconciliationRun]:
    """The latest runs."""
    query = select(ReconciliationRun).order_by(ReconciliationRun.started_at.desc()).limit(limit)
    if provider is not None:
        query = query.where(ReconciliationRun.provider == provider)
    with database.begin() as session:
        found = session.scalars(query).all()
        session.expunge_all()
    return found


def exists(database: Database, run_id: uuid.UUID) -> bool:
    """Whether there is such a run."""
    with database.begin() as session:
        return session.get(ReconciliationRun, run_id) is not None


def counts(database: Database, run_id: uuid.UUID) -> dict[str, int]:
    """How many findings of each kind a run saw."""
    query = (
        select(ReconciliationFinding.kind, func.count())
        .where(ReconciliationFinding.last_run_id == run_id)
        .group_by(ReconciliationFinding.kind)
        .order_by(ReconciliationFinding.kind)
    )
    with database.begin() as session:
        return {row[0]: row[1] for row in session.execute(query)}


def insert_into(session: Session) -> Any:
    dialect = session.get_bind().dialect.name
    return postgresql.insert if dialect == "postgresql" else sqlite.insert


def changed_by(result: Any) -> int:
    return int(result.rowcount)
