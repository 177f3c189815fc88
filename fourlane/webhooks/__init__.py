"""Webhooks that come in: verified on their raw bytes, told from replays, and made into jobs.

    from fourlane.webhooks import on_webhook

    @on_webhook("stripe", "invoice.paid")
    def book(event):
        ...

``receive.py`` turns a request into a job: ``gates.py`` is what it must pass before its body is read, ``verify.py`` says
whether it is the provider's. ``handlers.py`` runs the functions that asked for it, ``wsgi.py`` and ``asgi.py`` are
endpoints for any server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Answer": "fourlane.webhooks.receive",
    "Event": "fourlane.webhooks.handlers",
    "Receiver": "fourlane.webhooks.receive",
    "Refused": "fourlane.webhooks.verify",
    "Senders": "fourlane.webhooks.verify",
    "Unverifiable": "fourlane.webhooks.verify",
    "Verified": "fourlane.webhooks.verify",
    "forward_webhook": "fourlane.webhooks.handlers",
    "on_webhook": "fourlane.webhooks.handlers",
    "verify": "fourlane.webhooks.verify",
}
__all__ = list(_HOMES)

if TYPE_CHECKING:
    from fourlane.webhooks.handlers import Event as Event
    from fourlane.webhooks.handlers import forward_webhook as forward_webhook
    from fourlane.webhooks.handlers import on_webhook as on_webhook
    from fourlane.webhooks.receive import Answer as Answer
    from fourlane.webhooks.receive import Receiver as Receiver
    from fourlane.webhooks.verify import Refused as Refused
    from fourlane.webhooks.verify import Senders as Senders
    from fourlane.webhooks.verify import Unverifiable as Unverifiable
    from fourlane.webhooks.verify import Verified as Verified
    from fourlane.webhooks.verify import verify as verify


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fourlane.webhooks' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
