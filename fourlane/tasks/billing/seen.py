"""What a run saw in the provider's books. It is remembered in the database, so that memory holds two pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from fourlane.db.models import ReconciliationSeen
from fourlane.db.statements import insert_into
from fourlane.providers.payments import Entry
from fourlane.tasks.billing.differences import Seen
from fourlane.tasks.billing.runs import Progress

__all__ = ["payments", "remember", "under", "unseen"]


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


def under(session: Session, run: Progress, refs: Iterable[str]) -> dict[str, list[Seen]]:
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
