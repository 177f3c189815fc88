"""Webhooks that we send: to one address, or to the endpoints that asked for an event."""

from fourlane.tasks.webhooks.delivery import Delivered, DeliveryFailed, deliver
from fourlane.tasks.webhooks.endpoints import send_event

__all__ = ["Delivered", "DeliveryFailed", "deliver", "send_event"]
