"""Webhooks that go out, to endpoints of customers."""

from __future__ import annotations

from typing import Annotated

from fourlane.config.groups.group import Group
from fourlane.config.values import Positive, Switch, at_least

__all__ = ["DeliverySettings"]


class DeliverySettings(Group):
    webhook_allow_private: Switch = False
    """Deliver webhooks to private and loopback addresses too."""
    webhook_allow_http: Switch = False
    """Deliver webhooks without TLS in production too."""
    webhook_timeout_seconds: Annotated[int, at_least(1, 59)] = 30
    """For one attempt; the job itself is interrupted after 60."""
    webhook_disable_days: Positive = 5
    """An endpoint that took nothing for so long, though it was tried, is disabled."""
    webhook_tenant_concurrency: Positive = 100
    """Deliveries of one organization at once, over all workers."""
    webhook_receiver_concurrency: Positive = 20
    """Deliveries to one address that is no endpoint (`webhooks.deliver`), of one organization at once, likewise."""
    webhook_slow_seconds: Annotated[int, at_least(1, 59)] = 10
    """An endpoint that takes longer, five times in a row, gets one delivery at a time until it is quick again."""
