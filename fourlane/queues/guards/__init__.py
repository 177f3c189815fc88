"""What all workers hold in common about services outside: limits, breakers, budgets, places, batches."""

from fourlane.queues.guards.batches import Batches
from fourlane.queues.guards.budgets import ALL, Account, Asked, Bound, Budgets, PaidCall, period_of
from fourlane.queues.guards.lines import Lines
from fourlane.queues.guards.places import Places
from fourlane.queues.guards.providers import ProviderState, ProviderStates
from fourlane.queues.guards.turns import Turns

__all__ = [
    "ALL",
    "Account",
    "Asked",
    "Batches",
    "Bound",
    "Budgets",
    "Lines",
    "PaidCall",
    "Places",
    "ProviderState",
    "ProviderStates",
    "Turns",
    "period_of",
]
