"""Where this process finds endpoints, and the threads in which it asks the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from fourlane.db.setup import database
from fourlane.root import Root, root
from fourlane.threads import Threads

if TYPE_CHECKING:
    from fourlane.db.engine import Database

__all__ = ["Setup", "configure", "setup"]

# Of the process's pool, which it has in common with all else: deliveries wait for each other, and not for a connection.
_MOST_THREADS: Final = 4


def _threads(most: int = _MOST_THREADS) -> Threads:
    return Threads(most, "fourlane-webhooks")


@dataclass(frozen=True, slots=True)
class Setup:
    database: Database
    disable_after: timedelta
    has_channel: bool = False
    threads: Threads = field(default_factory=_threads)


_setup: Setup | None = None


def configure(database: Database, *, disable_after: timedelta, has_channel: bool = False) -> None:
    """Set where this process finds endpoints. Without it, the first delivery takes the settings'.

    Parameters:
      disable_after: an endpoint that took nothing for so long, though it was tried, is disabled.
      has_channel: whether operators are told of that (channel.py).
    """
    global _setup
    _setup = Setup(database, disable_after, has_channel)


def setup() -> Setup:
    """That of this process. Raises SettingsError."""
    return _setup or root().part(_setup_of)


def _setup_of(of: Root) -> Setup:
    """A part: this process's database, and what the settings say. Raises SettingsError."""
    settings = of.settings
    made = Setup(
        of.part(database),
        disable_after=timedelta(days=settings.webhook_disable_days),
        has_channel=settings.channel_url is not None,
        threads=_threads(min(_MOST_THREADS, settings.database_pool_size)),
    )
    of.on_close(made.threads.close)
    return made
