"""Builds everything from settings, once. No behaviour of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fourlane.errors import SettingsError
from fourlane.queues.broker import Defaults, Opened
from fourlane.queues.connection import Connector, connect
from fourlane.queues.store import Store

if TYPE_CHECKING:
    from fourlane.config import Settings

__all__ = ["configure_webhooks", "open_from_settings", "open_store", "redis_url"]


def open_from_settings() -> Opened:
    """What the default broker works on. Raises SettingsError."""
    from fourlane.config import load_settings

    settings = load_settings()
    defaults = Defaults(
        service=settings.service,
        max_retries=settings.max_retries,
        min_backoff_ms=settings.min_backoff_ms,
        max_backoff_ms=settings.max_backoff_ms,
        timeout_ms=settings.timeout_ms,
        result_ttl_ms=settings.result_ttl_ms,
        max_body_bytes=settings.max_body_bytes,
    )
    return Opened(open_store(settings), defaults)


def configure_webhooks() -> None:
    """Give deliveries their settings; at the first one, so that producers do not load them. Raises SettingsError."""
    from fourlane.config import load_settings
    from fourlane.tasks import webhooks

    settings = load_settings()
    webhooks.configure(allow_private=settings.webhook_allow_private, timeout_seconds=settings.webhook_timeout_seconds)


def open_store(settings: Settings) -> Store:
    """The jobs that these settings point at."""
    try:
        client = connect(redis_url(settings))
    except ValueError:  # its text may hold a part of the password
        raise SettingsError(
            "REDIS_URL: its port or one of its options cannot be read; write redis://USER:PASSWORD@HOST:PORT/0, "
            "with signs such as / and @ in the password as %2F and %40"
        ) from None
    return Store(
        Connector(client),
        namespace=settings.namespace,
        environment=settings.environment,
        dead_max=settings.dead_max,
        dead_ttl_ms=settings.dead_ttl_days * 86_400_000,
        crash_limit=settings.crash_limit,
    )


def redis_url(settings: Settings) -> str:
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
