"""The record of what a guard should look at."""

from __future__ import annotations

from typing import Final

from fourlane.db.engine import Database
from fourlane.db.models import SecurityEvent

__all__ = ["record_refusal"]

_WARNINGS: Final = frozenset(("signature", "age", "address", "transmission", "unusable"))


def record_refusal(
    database: Database, *, provider: str, reason: str, detail: str, address: str, unreported: int
) -> None:
    """Note a webhook that was not taken. Forgeries and what is lost are warnings."""
    with database.begin() as session:
        session.add(
            SecurityEvent(
                kind="webhook_refused",
                severity="warning" if reason in _WARNINGS else "info",
                source=f"webhooks.{provider}",
                ip_address=address or None,
                details={"reason": reason, "detail": detail[:500], "unreported_before": unreported},
            )
        )
