"""Reconciliation of payment providers' books with ours."""

from fourlane.tasks.billing.errors import InvalidPeriod, RunTaken
from fourlane.tasks.billing.reconciliation import (
    PROVIDERS,
    Summary,
    period_of,
    reconcile,
    reconcile_period,
)

__all__ = ["PROVIDERS", "InvalidPeriod", "RunTaken", "Summary", "period_of", "reconcile", "reconcile_period"]
