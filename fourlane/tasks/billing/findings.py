"""Findings: what runs found, kept once however many runs find it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fourlane.db.engine import Database
from fourlane.db.models import ReconciliationFinding
from fourlane.db.statements import insert_into
from fourlane.tasks.billing.differences import Finding
from fourlane.tasks.billing.runs import Progress

__all__ = ["counts", "findings", "record"]

_ROWS: Final = 500


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


def findings(database: Database, run_id: uuid.UUID, *, rows: int = _ROWS) -> Iterator[ReconciliationFinding]:
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
