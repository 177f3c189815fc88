"""Event streams. AWS itself is told by AWS's own variables."""

from __future__ import annotations

from typing import Annotated

from fourlane.config.groups.deployment import DeploymentSettings
from fourlane.config.values import Positive, Switch, ZeroOrMore, between

__all__ = ["EventSettings"]


class EventSettings(DeploymentSettings):
    events_bucket: str = ""
    """The S3 bucket for events over the size limit; empty: they are refused."""
    events_max_bytes: Annotated[int, between(1_024, 1_048_576)] = 1_048_576
    """The size limit of an event in SQS."""
    events_buffer: ZeroOrMore = 0
    """Events that a publisher keeps in the data folder while SQS cannot be reached; 0: that is an error."""
    events_receivers: Positive = 4
    """Threads that receive from one event's queue at most."""
    events_visibility_seconds: Annotated[int, between(1, 43_200)] = 60
    """How long a received event is hidden; what a dead receiver held comes back after that."""
    watch_streams: Switch = False
    """Count what waits in the event queues, for metrics, `fourlane status` and alerts; each look costs SQS requests."""
