"""All settings, made of the groups: a new group is added here.

The platform's variables keep their names (``REDIS_URL``); Fourlane's own begin with ``FOURLANE_``.
"""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import Final

from pydantic import PrivateAttr
from pydantic_settings import BaseSettings, SettingsConfigDict

from fourlane.config.groups.ai import AiSettings
from fourlane.config.groups.database import DatabaseSettings
from fourlane.config.groups.deliveries import DeliverySettings
from fourlane.config.groups.events import EventSettings
from fourlane.config.groups.jobs import JobSettings
from fourlane.config.groups.notifications import NotificationSettings
from fourlane.config.groups.observe import ObserveSettings
from fourlane.config.groups.outbox import OutboxSettings
from fourlane.config.groups.storage import StorageSettings
from fourlane.config.groups.upkeep import UpkeepSettings
from fourlane.config.groups.webhooks import WebhookSettings
from fourlane.config.groups.worker import WorkerSettings
from fourlane.config.shown import show

__all__ = ["PREFIX", "Settings", "variables"]

PREFIX: Final = "FOURLANE_"


# Fields come in the order of the bases from the last one on.
class Settings(
    BaseSettings,
    ObserveSettings,
    UpkeepSettings,
    NotificationSettings,
    DeliverySettings,
    WebhookSettings,
    AiSettings,
    StorageSettings,
    EventSettings,
    OutboxSettings,
    DatabaseSettings,
    WorkerSettings,
    JobSettings,
):
    """Everything that can be set, checked. Get one from ``load_settings``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        # Groups read the JSON of a variable themselves, to say what is wrong with it.
        enable_decoding=False,
        defer_build=False,
    )

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    def describe(self) -> list[tuple[str, str, str]]:
        """Every variable with its value, fit to be shown, and its source.

        A source is ``default``, ``environment``, the file's name, or ``override`` for what the caller gave.
        """
        return [
            (
                variable,
                show(getattr(self, field), Settings.model_fields[field].metadata),
                self._sources.get(field, "default"),
            )
            for field, variable in variables().items()
        ]


@cache
def variables() -> MappingProxyType[str, str]:
    """The variable of each field."""
    return MappingProxyType(
        {
            field: info.validation_alias if isinstance(info.validation_alias, str) else PREFIX + field.upper()
            for field, info in Settings.model_fields.items()
        }
    )
