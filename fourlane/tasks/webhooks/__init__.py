"""Webhooks that we send: to one address, or to the endpoints that asked for an event."""

from fourlane.tasks.webhooks.attempt import Delivered, DeliveryFailed
from fourlane.tasks.webhooks.delivery import deliver
from fourlane.tasks.webhooks.events import send_event
from fourlane.tasks.webhooks.managing import add_endpoint, change_endpoint
from fourlane.tasks.webhooks.policy import InvalidEndpoint

__all__ = ["Delivered", "DeliveryFailed", "InvalidEndpoint", "add_endpoint", "change_endpoint", "deliver", "send_event"]
