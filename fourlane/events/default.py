"""The publisher that the settings describe, opened on first use, and its verbs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from fourlane.events.publisher import Published, Publisher
from fourlane.events.setup import publisher
from fourlane.root import root

__all__ = ["apublish", "apublish_many", "default_publisher", "publish", "publish_many"]


def default_publisher() -> Publisher:
    """One for each process, closed at its end. Raises SettingsError, EventsUnavailable."""
    return root().part(publisher)


def publish(
    name: str,
    data: Any,
    *,
    tenant: str | None = None,
    key: str = "",
    id: str = "",
    time: datetime | None = None,
    delay: timedelta | float | None = None,
) -> Published:
    """Publish one event; returns once SQS has accepted it, or the local buffer has. See Publisher.publish."""
    return default_publisher().publish(name, data, tenant=tenant, key=key, id=id, time=time, delay=delay)


def publish_many(
    name: str,
    items: Iterable[Any],
    *,
    tenant: str | None = None,
    key: str | Callable[[Any], str] = "",
    delay: timedelta | float | None = None,
) -> list[Published]:
    """Publish many events of one kind, in as few calls as SQS allows. See Publisher.publish_many."""
    return default_publisher().publish_many(name, items, tenant=tenant, key=key, delay=delay)


async def apublish(name: str, data: Any, **options: Any) -> Published:
    """As publish, without blocking the event loop."""
    return await asyncio.to_thread(publish, name, data, **options)


async def apublish_many(name: str, items: Iterable[Any], **options: Any) -> list[Published]:
    """As publish_many, without blocking the event loop."""
    return await asyncio.to_thread(publish_many, name, items, **options)
