"""Says in time which models end: at a worker's start, by ``fourlane doctor``, and where one is asked."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Final

from fourlane.providers.ai.catalogue import End
from fourlane.tasks.ai.config import AiConfig, config_from
from fourlane.tasks.ai.models.names import ends_soon, retired, today
from fourlane.telling.seldom import AtMostOnce

if TYPE_CHECKING:
    from fourlane.config.groups.ai import AiOptions

__all__ = ["say", "warn", "warnings"]

log = logging.getLogger("fourlane.ai")

_DAY_SECONDS: Final = 86_400.0


def warnings(options: AiOptions) -> list[str]:
    """A line for each model of the settings that has ended, or ends soon. Raises SettingsError: one is none."""
    return [*_warnings(config_from(options), today())]


def _warnings(config: AiConfig, day: date) -> Iterator[str]:
    for name in config.named():
        full = config.resolve(name)
        end = config.end_of(full)
        if end is not None and (end.on <= day or ends_soon(end, day)):
            yield f"FOURLANE_AI: {say(full, end, day)}"


def warn(config: AiConfig, full: str) -> None:
    """Log it where a model that is asked ends soon, once a day in each process."""
    end, day = config.end_of(full), today()
    if end is not None and ends_soon(end, day) and _warned.setdefault(full, AtMostOnce(_DAY_SECONDS)).passes():
        log.warning("%s", say(full, end, day))


_warned: Final[dict[str, AtMostOnce]] = {}


def say(full: str, end: End, day: date) -> str:
    """What to say of a model that has ended or ends soon."""
    if end.on <= day:
        return retired(full, end)
    return f"{full} will be retired on {end.on}; " + (f"use {end.successor}" if end.successor else "use another model")
