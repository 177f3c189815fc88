"""Endpoints that are added and changed: what is wrong with one is said then, and not when it gets its first event."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from fourlane.tasks.webhooks.policy import InvalidEndpoint, Policy, check_url, policy

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from fourlane.db.models import WebhookEndpoint

__all__ = ["MOST_AT_ONCE", "add_endpoint", "change_endpoint"]

MOST_AT_ONCE: Final = 1_000


def add_endpoint(
    session: Session,
    url: str,
    *,
    organization_id: uuid.UUID | None = None,
    event_types: Iterable[str] = ("*",),
    description: str | None = None,
    max_concurrency: int = 10,
    ordered: bool = False,
    version: str = "1",
    by: Policy | None = None,
) -> WebhookEndpoint:
    """Add an endpoint, with a secret of its own.

    Parameters:
      organization_id: whose events; an endpoint of none gets those of all.
      event_types: each in full, or its beginning and a star: ``invoice.*``.
      max_concurrency: deliveries at once, 1 to 1,000.
      ordered: deliveries of one key go one after another.
      by: what URLs may be; by default the settings say.

    Raises InvalidEndpoint.
    """
    from fourlane.db.models import WebhookEndpoint
    from fourlane.tasks.webhooks import rows

    check_url(url, by or policy())
    made = WebhookEndpoint(
        id=uuid.uuid4(),
        organization_id=organization_id,
        url=url,
        description=description,
        secret=rows.new_secret(),
        event_types=_checked_types(event_types),
        max_concurrency=_checked_number(max_concurrency),
        ordered=ordered,
        version=version,
    )
    session.add(made)
    return made


def change_endpoint(
    endpoint: WebhookEndpoint,
    *,
    url: str | None = None,
    event_types: Iterable[str] | None = None,
    max_concurrency: int | None = None,
    by: Policy | None = None,
) -> None:
    """Change what is given. Deliveries that are on their way go to the new URL, at once when the transaction commits.

    Raises InvalidEndpoint.
    """
    if url is not None:
        check_url(url, by or policy())
        endpoint.url = url
        _begin_anew(endpoint)
    if event_types is not None:
        endpoint.event_types = _checked_types(event_types)
    if max_concurrency is not None:
        endpoint.max_concurrency = _checked_number(max_concurrency)


def _begin_anew(endpoint: WebhookEndpoint) -> None:
    from sqlalchemy.orm import object_session

    from fourlane.tasks.webhooks import rows

    if (session := object_session(endpoint)) is not None:  # else nobody delivers to it yet
        rows.begin_anew(session, endpoint)


def _checked_types(types: Iterable[str]) -> list[str]:
    found = list(types)
    for pattern in found:
        if not pattern or "*" in pattern[:-1]:
            raise InvalidEndpoint(f"type {pattern!r}: write it in full, or its beginning and a star: 'invoice.*'")
    if not found:
        raise InvalidEndpoint("an endpoint needs a type; '*' stands for all")
    return found


def _checked_number(number: int) -> int:
    if not 1 <= number <= MOST_AT_ONCE:
        raise InvalidEndpoint(f"max_concurrency must be 1 to {MOST_AT_ONCE:,}, not {number!r}")
    return number
