"""What all workers hold in common about services outside: limits, breakers and budgets."""

from fourlane.queues.guards.budgets import Budgets
from fourlane.queues.guards.providers import ProviderState, ProviderStates

__all__ = ["Budgets", "ProviderState", "ProviderStates"]
