"""The composition root: all parts of a process, by name. For commands, hosts and programs; nothing below imports it.

How a part is made is said in the part (its ``setup.py``); that each is made once, in root.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fourlane.db.setup import database, open_database
from fourlane.queues.opening import Opening, opening_here, opening_of, store
from fourlane.root import Root, root

if TYPE_CHECKING:
    from fourlane.config import Settings
    from fourlane.db.engine import Database
    from fourlane.events.aws import Aws
    from fourlane.events.publisher import Publisher
    from fourlane.queues.store import Store
    from fourlane.storage.store import Storage
    from fourlane.tasks.ai import AiConfig
    from fourlane.tasks.notifications.setup import Setup
    from fourlane.webhooks.receive import Receiver

__all__ = ["App", "Opening", "notification_setup", "open_database", "opening_of", "webhook_receiver"]


class App:
    """Parts, each opened when it is first asked for, and the same for all who ask. Threads may share it.

    Parameters:
      settings: other ones than this process's, for parts that nobody else has. Such an app is to be closed.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.root = root() if settings is None else Root(settings)

    @property
    def settings(self) -> Settings:
        return self.root.settings

    @property
    def opening(self) -> Opening:
        """How the jobs' store is opened. Raises SettingsError, as all parts do."""
        return opening_here(self.root)

    @property
    def store(self) -> Store:
        return self.root.part(store)

    @property
    def database(self) -> Database:
        return self.root.part(database)

    @property
    def storage(self) -> Storage:
        from fourlane.storage.setup import storage

        return self.root.part(storage)

    @property
    def aws(self) -> Aws:
        from fourlane.events.setup import sqs

        return self.root.part(sqs)

    @property
    def publisher(self) -> Publisher:
        from fourlane.events.setup import publisher

        return self.root.part(publisher)

    @property
    def ai(self) -> AiConfig:
        from fourlane.tasks.ai.config import config_of

        return self.root.part(config_of)

    @property
    def notifications(self) -> Setup:
        from fourlane.tasks.notifications.setup import setup_of

        return self.root.part(setup_of)

    @property
    def webhook_receiver(self) -> Receiver:
        from fourlane.webhooks.setup import receiver

        return self.root.part(receiver)

    def close(self) -> None:
        """Close what was opened."""
        self.root.close()


def notification_setup() -> Setup:
    """How this process sends notifications. Raises SettingsError."""
    return App().notifications


def webhook_receiver(settings: Settings) -> Receiver:
    """What takes webhooks, as these settings say."""
    return App(settings).webhook_receiver
