"""Puts differences right that are safe to put right, each with an audit row."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from fourlane.db.engine import Database
from fourlane.db.models import (
    AuditLog,
    Invoice,
    Organization,
    ReconciliationFinding,
    ReconciliationRun,
    Subscription,
)
from fourlane.db.statements import changed_by, insert_into
from fourlane.tasks.billing.rows import SHAPES

__all__ = ["repair", "repair_of"]


def repair_of(finding: ReconciliationFinding) -> str | None:
    """What would put a difference right without moving money or credits, in a sentence; None where nothing would."""
    paid = finding.details.get("amount_paid_minor")
    match finding.kind, finding.details.get("object"):
        case "status", "invoice" | "subscription":
            return f"set status of {finding.our_table} {finding.our_id} to {finding.provider_status}"
        case "missing_here", "invoice" if finding.details.get("customer") and paid is not None:
            return f"add invoice {finding.provider_id} ({finding.provider_status})"
    return None


def repair(database: Database, finding: ReconciliationFinding, *, actor: str, now: datetime) -> bool:
    """Put a difference right, with an audit row, in one transaction.

    Returns False when it is not what it was any more, or nobody knows whose invoice it is: then nothing is changed.
    """
    sentence = repair_of(finding)
    if sentence is None or finding.repaired_at is not None:
        return False
    with database.begin() as session:
        if finding.kind == "status":
            organization = finding.organization_id if _set_status(session, finding) else None
        else:
            organization = _add_invoice(session, finding)
        if organization is None:
            return False
        session.add(
            AuditLog(
                organization_id=organization,
                actor=actor,
                action="billing.repair",
                resource_type=finding.our_table or "invoices",
                resource_id=str(finding.our_id or finding.provider_id),
                details={
                    "finding": finding.id.hex,
                    "repair": sentence,
                    "before": finding.our_status,
                    "after": finding.provider_status,
                },
            )
        )
        session.execute(
            update(ReconciliationFinding)
            .where(ReconciliationFinding.id == finding.id)
            .values(repaired_at=now, resolved_at=now, repair=sentence)
        )
        session.execute(
            update(ReconciliationRun)
            .where(ReconciliationRun.id == finding.last_run_id)
            .values(repaired=ReconciliationRun.repaired + 1, repair=True)
        )
    return True


def _set_status(session: Session, finding: ReconciliationFinding) -> bool:
    assert finding.our_table is not None
    model = SHAPES[finding.our_table].model
    values: dict[str, Any] = {"status": finding.provider_status}
    if model is Invoice and finding.provider_status == "paid":
        values |= {"amount_paid_minor": finding.details["amount_paid_minor"], "paid_at": _told(finding, "paid_at")}
    if model is Subscription and "canceled_at" in finding.details:
        values["canceled_at"] = _told(finding, "canceled_at")
    done = session.execute(
        update(model).where(model.id == finding.our_id, model.status == finding.our_status).values(**values)
    )
    return changed_by(done) == 1


def _add_invoice(session: Session, finding: ReconciliationFinding) -> uuid.UUID | None:
    organization = session.scalar(
        select(Organization.id).where(Organization.stripe_customer_id == finding.details["customer"])
    )
    if organization is None or finding.provider_amount_minor is None:
        return None
    done = session.execute(
        insert_into(session)(Invoice)
        .values(
            id=uuid.uuid4(),
            organization_id=organization,
            provider=finding.provider,
            provider_invoice_id=finding.provider_id,
            number=finding.details.get("number"),
            status=finding.provider_status,
            currency=finding.provider_currency,
            amount_due_minor=finding.provider_amount_minor,
            amount_paid_minor=finding.details["amount_paid_minor"],
            issued_at=finding.occurred_at,
            paid_at=_told(finding, "paid_at"),
        )
        .on_conflict_do_nothing()
    )
    return organization if changed_by(done) == 1 else None


def _told(finding: ReconciliationFinding, name: str) -> datetime | None:
    """A moment by the provider's clock: ours would say when the repair was made."""
    seconds = finding.details.get(name)
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, int) else None
