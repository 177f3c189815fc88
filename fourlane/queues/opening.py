"""What a broker works on, and how it is opened: by the settings, or as a supervisor handed it to its processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from fourlane import codec
from fourlane.config import plain
from fourlane.errors import SettingsError
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.store import Store
from fourlane.root import Root, root

if TYPE_CHECKING:
    from fourlane.config.groups.jobs import JobSettings
    from fourlane.config.groups.redis import RedisSettings

__all__ = ["Defaults", "Opened", "Opening", "opening_here", "opening_of", "opening_with", "redis_url", "store"]


@dataclass(frozen=True, slots=True)
class Defaults:
    """What tasks take when they do not say otherwise."""

    service: str = "default"
    max_retries: int = 5
    min_backoff_ms: int = 1_000
    max_backoff_ms: int = 3_600_000
    timeout_ms: int = 600_000
    hard_timeout_ms: int | None = None
    result_ttl_ms: int = 0
    max_body_bytes: int = codec.MAX_BODY_BYTES
    outbox_days_ahead: int = 366
    max_result_bytes: int = codec.MAX_RESULT_BYTES


@dataclass(frozen=True, slots=True)
class Opened:
    """What a broker works on."""

    store: Store
    defaults: Defaults = Defaults()


class Opening(msgspec.Struct, frozen=True):
    """What opening needs, as plain data: a supervisor hands it to its processes, which so need no settings."""

    redis_url: str
    namespace: str = "fourlane"
    environment: str = "local"
    dead_max: int = 100_000
    dead_ttl_ms: int = 30 * 86_400_000
    crash_limit: int = 3
    defaults: Defaults = Defaults()

    def __repr__(self) -> str:
        return f"Opening(namespace={self.namespace!r}, environment={self.environment!r})"

    def open(self) -> Opened:
        """Raises SettingsError: the address cannot be read."""
        return self.open_on(client_of(self.redis_url))

    def open_on(self, client: Any) -> Opened:
        """On a client of the caller's own."""
        store = Store(
            Connector(client),
            namespace=self.namespace,
            environment=self.environment,
            dead_max=self.dead_max,
            dead_ttl_ms=self.dead_ttl_ms,
            crash_limit=self.crash_limit,
        )
        return Opened(store, self.defaults)


def opening_here(of: Root | None = None) -> Opening:
    """What this process works on. Raises SettingsError: there is no server."""
    here = of or root()
    return here.given(Opening) or _opening_of_plain(here) or opening_of(here.settings)


def _opening_of_plain(here: Root) -> Opening | None:
    """Where so little is set that the settings need not be loaded."""
    found = None if here.has_settings else plain.read()
    if found is None:
        return None
    return Opening(found.redis_url, found.namespace, found.environment, defaults=Defaults(found.service))


def opening_with(**said: Any) -> Opening:
    """What brokers take that are made with an address of their own: all that they do not say themselves.

    Raises SettingsError.
    """
    here = root()
    opening = here.given(Opening) or _opening_of_plain(here) or opening_of(here.settings, url="")
    return msgspec.structs.replace(opening, redis_url="", **said)


def store(of: Root) -> Store:
    """A part: the jobs that the settings point at. Raises SettingsError."""
    opened = opening_here(of).open().store
    of.on_close(opened.connector.close)
    return opened


def opening_of(settings: JobSettings, url: str | None = None) -> Opening:
    """Raises SettingsError: there is no server, and no ``url`` is given."""
    return Opening(
        redis_url=redis_url(settings) if url is None else url,
        namespace=settings.namespace,
        environment=settings.environment,
        dead_max=settings.dead_max,
        dead_ttl_ms=settings.dead_ttl_days * 86_400_000,
        crash_limit=settings.crash_limit,
        defaults=Defaults(
            service=settings.service,
            max_retries=settings.max_retries,
            min_backoff_ms=settings.min_backoff_ms,
            max_backoff_ms=settings.max_backoff_ms,
            timeout_ms=settings.timeout_ms,
            hard_timeout_ms=settings.hard_timeout_ms,
            result_ttl_ms=settings.result_ttl_ms,
            max_body_bytes=settings.max_body_bytes,
            outbox_days_ahead=settings.outbox_days_ahead,
            max_result_bytes=settings.max_result_bytes,
        ),
    )


def redis_url(settings: RedisSettings) -> str:
    """REDIS_URL, else the embedded server that a running ``fourlane dev`` owns.

    Raises:
      SettingsError: there is neither.
    """
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    from fourlane.embedded import EmbeddedRedis

    server = EmbeddedRedis.find(settings.data_dir)
    if server is None:
        raise SettingsError(
            f"REDIS_URL is not set, and no `fourlane dev` runs on {settings.data_dir}; "
            "set REDIS_URL, or start `fourlane dev`"
        )
    return server.url
