"""Rows of the database, as the commands take and show them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from fourlane.commands.db import open_database
from fourlane.commands.shared import fail
from fourlane.commands.text import since

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from fourlane.db.models import WebhookEndpoint

__all__ = ["MOST", "Id", "ago", "endpoint_of", "fields", "session_here"]

MOST: Final = 10_000
"""Rows that one call looks at."""


class Id(click.ParamType):  # type: ignore[type-arg]
    """An id of the database."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> uuid.UUID:
        try:
            return uuid.UUID(str(value))
        except ValueError:
            self.fail(f"{value!r} is no id; write it as `list` shows it", param, ctx)


@contextmanager
def session_here() -> Iterator[Session]:
    """A transaction on the database that the settings point at."""
    with open_database() as database, database.begin() as session:
        yield session


def endpoint_of(session: Session, endpoint_id: uuid.UUID) -> WebhookEndpoint:
    """Fails where there is none."""
    from fourlane.db.models import WebhookEndpoint

    found = session.get(WebhookEndpoint, endpoint_id)
    if found is None:
        fail(f"there is no endpoint {endpoint_id}; `fourlane webhooks endpoints list` lists them")
    return found


def fields(row: Any, names: Iterable[str]) -> dict[str, Any]:
    """Some columns of a row, as JSON has them."""
    return {name: _plain(getattr(row, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value


def ago(at: datetime | None) -> str:
    """For tables."""
    return since(None if at is None else int(at.timestamp() * 1000))
