"""``fourlane webhooks``: endpoints, what was delivered to them, and whether a request is genuine."""

from __future__ import annotations

import click

from fourlane.commands.shared import Group
from fourlane.commands.webhooks.deliveries import deliveries, resend
from fourlane.commands.webhooks.endpoints import endpoints
from fourlane.commands.webhooks.verify import verify

__all__ = ["webhooks"]


@click.group(cls=Group)
def webhooks() -> None:
    """Webhooks that go out to endpoints, and those that come in."""


for _command in (endpoints, deliveries, resend, verify):
    webhooks.add_command(_command)
