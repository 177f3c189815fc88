"""Reconciliation of payment providers' books with ours."""

from fourlane.tasks.billing.reconciliation import (
    PROVIDERS,
    InvalidPeriod,
    Summary,
    period_of,
    reconcile,
    reconcile_period,
)

__all__ = ["PROVIDERS", "InvalidPeriod", "Summary", "period_of", "reconcile", "reconcile_period"]
