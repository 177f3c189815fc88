"""The outbox and its relay."""

from __future__ import annotations

from fourlane.config.groups.group import Group
from fourlane.config.values import Positive, Seconds, Switch

__all__ = ["OutboxSettings"]


class OutboxSettings(Group):
    relay: Switch | None = None
    """Whether a worker moves the outbox's jobs to Redis too; None: only that of ``fourlane dev`` does."""
    outbox_batch: Positive = 500
    """Rows that a relay moves at once."""
    outbox_keep_seconds: Seconds = 3_600
    """How long relayed rows are kept."""
