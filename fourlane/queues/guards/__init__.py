"""What all workers hold in common about services outside: limits, breakers, budgets, places."""

from fourlane.queues.guards.budgets import Budgets
from fourlane.queues.guards.providers import ProviderState, ProviderStates
from fourlane.queues.guards.receivers import Receivers

__all__ = ["Budgets", "ProviderState", "ProviderStates", "Receivers"]
