"""Names of environments, services, tiers and queues, both ways. Pure: no connection, no setting.

A queue is one tier of one service and is named ``{env}.jobs.{priority}.{service}``,
e.g. ``production.jobs.high.image-processing`` (platform architecture, section 6.3).
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final, NamedTuple
from uuid import UUID

from fourlane.errors import InvalidName

__all__ = ["ENVIRONMENTS", "Queue", "Tier", "check_service", "check_tenant", "parse_queue"]

ENVIRONMENTS: Final = ("local", "staging", "production")

_SERVICE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,62}")
_MAX_TENANT: Final = 200
_QUEUE = re.compile(r"(?P<env>[^.]+)\.jobs\.(?P<priority>[^.]+)\.(?P<service>[^.]+)")


class Tier(IntEnum):
    """A priority: its number orders it, its word names it, its target says how long a job may wait."""

    P0 = 0
    P1 = 1
    P2 = 2
    P3 = 3

    @property
    def word(self) -> str:
        """The priority word that queue names carry."""
        return _WORDS[self]

    @property
    def target_ms(self) -> int:
        """How long the oldest job may wait before the tier gets its guaranteed share."""
        return _TARGETS_MS[self]

    @classmethod
    def parse(cls, value: Tier | str | int) -> Tier:
        """Read ``"P1"``, ``"normal"``, ``1`` or a Tier."""
        if isinstance(value, str):
            tier = _BY_WORD.get(value.strip().lower())
            if tier is not None:
                return tier
        elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 3:
            return cls(value)
        raise InvalidName(f"{value!r} is no tier; use P0, P1, P2, P3 or high, normal, low, scheduled")


_WORDS: Final = ("high", "normal", "low", "scheduled")
# P3 runs "at its time", so it has no figure of its own: the slowest figure that the platform names.
_TARGETS_MS: Final = (1_000, 10_000, 60_000, 60_000)
_BY_WORD: Final = {word: Tier(i) for i, word in enumerate(_WORDS)} | {f"p{i}": Tier(i) for i in range(4)}


class Queue(NamedTuple):
    """One tier of one service."""

    service: str
    tier: Tier

    def name(self, environment: str) -> str:
        """The queue's full name, ``{env}.jobs.{priority}.{service}``."""
        return f"{environment}.jobs.{self.tier.word}.{self.service}"


def check_service(service: str) -> str:
    """Return the service's name, or raise InvalidName."""
    if not isinstance(service, str) or not _SERVICE.fullmatch(service):
        raise InvalidName(
            f"{service!r} is no service name: letters, digits, - and _, at most 63 characters, the first a letter or _"
        )
    return service


def check_tenant(tenant: object) -> str:
    """Return the tenant's name, or raise InvalidName. A UUID will do, as organizations have them; ``""`` is none."""
    name = str(tenant) if isinstance(tenant, UUID) else tenant
    if not isinstance(name, str) or len(name) > _MAX_TENANT or not name.isprintable():
        raise InvalidName(f"{tenant!r} is no tenant: a text of at most {_MAX_TENANT} printable characters, or a UUID")
    return name


def parse_queue(name: str, environment: str) -> Queue:
    """Read a queue's name.

    Three forms are taken: the full name of this environment; ``jobs.{priority}.{service}`` without the
    environment; and a plain word, as dramatiq programs use (``default``, ``emails``), which is the
    normal tier of the service of that name.
    """
    full = _QUEUE.fullmatch(name if not name.startswith("jobs.") else f"{environment}.{name}")
    if full is None:
        if "." in name:
            raise InvalidName(f"{name!r} is no queue name; write {environment}.jobs.PRIORITY.SERVICE")
        return Queue(check_service(name), Tier.P1)
    if full["env"] != environment:
        raise InvalidName(f"queue {name!r} belongs to the environment {full['env']!r}, but this one is {environment!r}")
    return Queue(check_service(full["service"]), Tier.parse(full["priority"]))
