"""What all workers hold in common about services outside: limits, breakers, budgets, places, batches."""

from fourlane.queues.guards.batches import Batches
from fourlane.queues.guards.budgets import Budgets
from fourlane.queues.guards.providers import ProviderState, ProviderStates
from fourlane.queues.guards.receivers import Receivers

__all__ = ["Batches", "Budgets", "ProviderState", "ProviderStates", "Receivers"]
