"""The record of what a guard should look at."""

from __future__ import annotations

from fourlane.db.engine import Database
from fourlane.db.models import SecurityEvent

__all__ = ["record_refusal"]


def record_refusal(
    database: Database, *, provider: str, reason: str, detail: str, address: str, unreported: int
) -> None:
    """Note a webhook that was not taken. A wrong signature is a warning, a provider that we do not serve is not."""
    with database.begin() as session:
        session.add(
            SecurityEvent(
                kind="webhook_refused",
                severity="warning" if reason in ("signature", "age", "address") else "info",
                source=f"webhooks.{provider}",
                ip_address=address or None,
                details={"reason": reason, "detail": detail[:500], "unreported_before": unreported},
            )
        )
