"""Event streams on AWS SQS: publish facts, and listen to them.

    fourlane.events.declare("platform.user-signup", UserSignup)
    fourlane.events.publish("platform.user-signup", {"email": "ada@example.com"}, tenant="acme")

    @fourlane.on_event("platform.user-signup", tier="P1")
    def welcome(event: fourlane.events.Event) -> None: ...

Needs ``fourlane[sqs]``; nothing here imports boto3 before something is published or received.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Event": "fourlane.events.envelope",
    "Hooks": "fourlane.events.hooks",
    "Published": "fourlane.events.publisher",
    "Publisher": "fourlane.events.publisher",
    "apublish": "fourlane.events.default",
    "apublish_many": "fourlane.events.default",
    "current_event": "fourlane.events.current",
    "declare": "fourlane.events.catalogue",
    "on_event": "fourlane.events.handlers",
    "publish": "fourlane.events.default",
    "publish_many": "fourlane.events.default",
}
__all__ = [*_HOMES]

if TYPE_CHECKING:
    from fourlane.events.catalogue import declare as declare
    from fourlane.events.current import current_event as current_event
    from fourlane.events.default import apublish as apublish
    from fourlane.events.default import apublish_many as apublish_many
    from fourlane.events.default import publish as publish
    from fourlane.events.default import publish_many as publish_many
    from fourlane.events.envelope import Event as Event
    from fourlane.events.handlers import on_event as on_event
    from fourlane.events.hooks import Hooks as Hooks
    from fourlane.events.publisher import Published as Published
    from fourlane.events.publisher import Publisher as Publisher


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
