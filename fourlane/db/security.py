"""The record of what a guard should look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fourlane.db.engine import Database
from fourlane.db.models import SecurityEvent

if TYPE_CHECKING:
    from fourlane.webhooks.receive import Refusal

__all__ = ["record_refusal"]


def record_refusal(database: Database, refusal: Refusal) -> None:
    """Note a webhook that was not taken. A wrong signature is a warning, a provider that we do not serve is not."""
    warning = refusal.reason in ("signature", "age", "address")
    with database.begin() as session:
        session.add(
            SecurityEvent(
                kind="webhook_refused",
                severity="warning" if warning else "info",
                source=f"webhooks.{refusal.provider}",
                ip_address=refusal.address or None,
                details={
                    "reason": refusal.reason,
                    "detail": refusal.detail[:500],
                    "unreported_before": refusal.unreported,
                },
            )
        )
