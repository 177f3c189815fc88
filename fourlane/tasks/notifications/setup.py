"""How this process sends notifications: as the settings say, or as a program configures it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from fourlane.db.setup import database, has_database
from fourlane.providers.setup import carrier
from fourlane.root import Root, root
from fourlane.storage.setup import inputs
from fourlane.tasks.health import in_turn, when_well
from fourlane.tasks.notifications import unsubscribe

if TYPE_CHECKING:
    from fourlane.config.groups.notifications import NotificationSettings
    from fourlane.providers.health import Target
    from fourlane.providers.messages import Carrier
    from fourlane.storage.inputs import Inputs
    from fourlane.tasks.notifications.ledger import Ledger
    from fourlane.tasks.notifications.notification import Channel, Notification
    from fourlane.tasks.notifications.templates import Templates

__all__ = ["Setup", "configure", "kept_ledger", "ledger", "setup", "setup_of", "templates"]

T = TypeVar("T")


class Guard(Protocol):
    def __call__(self, target: Target, call: Callable[[], T], /) -> T: ...


@dataclass(frozen=True, slots=True)
class Setup:
    """What sending needs.

    Parameters:
      templates, ledger: opened when they are first asked for.
      carrier: a channel's provider. Raises SettingsError when there is none, or no key for it.
      unsubscribe_url: the link for one tenant, recipient and category; empty when there is no page for it.
      inputs: where files of emails are read.
      alert_email: who gets alerts that are for information only; empty for nobody.
    """

    templates: Callable[[], Templates]
    ledger: Callable[[], Ledger]
    carrier: Callable[[Channel], Carrier]
    unsubscribe_url: Callable[[Channel, Notification, str], str]
    inputs: Callable[[], Inputs]
    alert_email: str = ""
    guard: Guard = lambda target, call: call()
    """Makes a call to a provider, or raises RateLimited because it may not be made now."""


_setup: Setup | None = None


def configure(given: Setup | None) -> None:
    """Set how this process sends. Without it, the first send takes the settings' values."""
    global _setup
    _setup = given


def setup() -> Setup:
    """How this process sends. Raises SettingsError."""
    return _setup or root().part(setup_of)


def setup_of(of: Root) -> Setup:
    """A part: what the settings say. Each part of it is opened when it is first needed. Raises SettingsError."""
    settings: NotificationSettings = of.settings
    carriers: dict[Channel, Carrier] = {}

    def of_channel(channel: Channel) -> Carrier:
        # Made twice by two threads at once, one of them is forgotten: none holds a connection.
        if channel not in carriers:
            carriers[channel] = carrier(
                settings,
                channel,
                lambda message_id: of.part(ledger).knows(message_id),
                lambda target, rate, patience: in_turn(target, per_second=rate, patience_seconds=patience),
            )
        return carriers[channel]

    def guard(target: Target, call: Callable[[], T]) -> T:
        from fourlane.providers.messages import read_error

        return when_well(target, call, read=read_error, timeout_seconds=settings.notification_timeout_seconds)

    return Setup(
        templates=lambda: of.part(templates),
        ledger=lambda: of.part(ledger),
        carrier=of_channel,
        unsubscribe_url=partial(unsubscribe.link, settings.unsubscribe_url or ""),
        inputs=lambda: of.part(inputs),
        alert_email=settings.alert_email or "",
        guard=guard,
    )


def templates(of: Root) -> Templates:
    """A part. Raises SettingsError."""
    from fourlane.tasks.notifications.templates import Templates

    return Templates(of.settings.notification_templates)


def ledger(of: Root) -> Ledger:
    """A part: the records of notifications. Raises SettingsError."""
    opened = of.part(database)
    from fourlane.tasks.notifications.ledger import Ledger

    limits = {channel: (limit.rate, limit.per_ms) for channel, limit in of.settings.notification_user_limits.items()}
    return Ledger(opened, limits)


def kept_ledger(of: Root) -> Ledger | None:
    """The records of notifications; None where there is no database of them."""
    if importlib.util.find_spec("sqlalchemy") is None:
        return None
    if not has_database(of.settings):
        return None
    found = of.part(ledger)
    return found if found.is_there() else None
