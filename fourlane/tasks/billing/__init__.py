"""Reconciliation of payment providers' books with ours."""

from fourlane.tasks.billing.reconciliation import (
    PROVIDERS,
    InvalidPeriod,
    Summary,
    period_of,
    reconcile,
    reconcile_period,
)
from fourlane.tasks.billing.runs import RunTaken

__all__ = ["PROVIDERS", "InvalidPeriod", "RunTaken", "Summary", "period_of", "reconcile", "reconcile_period"]
