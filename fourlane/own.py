"""The platform's own tasks: a module that workers import before those of the program, like any of them."""

from __future__ import annotations

from collections.abc import Iterable

import fourlane.tasks.billing.reconciliation
import fourlane.tasks.upkeep.maintenance
import fourlane.tasks.webhooks.channel
import fourlane.tasks.webhooks.delivery
import fourlane.tasks.webhooks.endpoints
import fourlane.tasks.webhooks.reopening
import fourlane.webhooks.handlers  # noqa: F401
from fourlane.tasks import modules

__all__ = ["import_modules"]


def import_modules(of_program: Iterable[str]) -> None:
    """For commands that send: import what a worker does. Raises ModuleError."""
    modules.import_modules(of_program)
