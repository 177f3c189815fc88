"""The outbox and its relay."""

from __future__ import annotations

from typing import Annotated

from fourlane.config.groups.group import Group
from fourlane.config.values import Positive, Seconds, Switch, at_least

__all__ = ["OutboxSettings"]


class OutboxSettings(Group):
    relay: Switch | None = None
    """Whether a worker moves the outbox's jobs to Redis too; None: only that of ``fourlane dev`` does."""
    outbox_batch: Positive = 500
    """Rows that a relay moves at once."""
    outbox_places: Annotated[int, at_least(0, bound=100_000)] = 0
    """How many jobs of one organization's rows run at once in a service, the others parked behind; 0: any number."""
    outbox_keep_seconds: Seconds = 3_600
    """How long relayed rows are kept."""
