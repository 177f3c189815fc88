"""``fourlane webhooks endpoints``: where webhooks go."""

from __future__ import annotations

import getpass
import uuid
from datetime import UTC, datetime, timedelta
from typing import Final

import click

from fourlane.commands.shared import Duration, Group, fail, print_json, say, wants_json
from fourlane.commands.text import human_age, table
from fourlane.commands.webhooks.rows import MOST, Id, ago, endpoint_of, fields, session_here

__all__ = ["endpoints"]

_LOOK_UP_SECONDS: Final = 5.0
_SHOWN: Final = (
    "id",
    "organization_id",
    "url",
    "description",
    "event_types",
    "version",
    "max_concurrency",
    "ordered",
    "consecutive_failures",
    "consecutive_slow",
    "failing_since",
    "disabled_at",
    "disabled_reason",
)
"""All but the secrets."""


@click.group("endpoints", cls=Group)
def endpoints() -> None:
    """Where webhooks go."""


@endpoints.command("list")
def endpoints_list() -> None:
    """List the endpoints."""
    from fourlane.tasks.webhooks import rows

    with session_here() as session:
        found = rows.find_endpoints(session, limit=MOST)
    if wants_json():
        print_json({"endpoints": [fields(endpoint, _SHOWN) for endpoint in found]})
        return
    table(
        ["ID", "URL", "TYPES", "STATE", "FAILURES", "FAILING SINCE"],
        [
            (
                str(endpoint.id),
                endpoint.url,
                " ".join(map(str, endpoint.event_types)),
                f"disabled: {endpoint.disabled_reason}" if endpoint.disabled_at else "enabled",
                endpoint.consecutive_failures,
                ago(endpoint.failing_since),
            )
            for endpoint in found
        ],
        "no endpoints",
    )


@endpoints.command("add")
@click.argument("url")
@click.option("--type", "types", multiple=True, help="An event type, or its beginning and a star. All by default.")
@click.option("--organization", type=Id(), help="Whose events; the platform's own endpoint gets all.")
@click.option("--description")
@click.option("--max-concurrency", type=click.IntRange(1, 1000), default=10, show_default=True)
@click.option("--ordered", is_flag=True, help="Deliveries of one key one after another.")
@click.option("--version", default="1", show_default=True, help="Of the payload.")
def endpoints_add(
    url: str,
    types: tuple[str, ...],
    organization: uuid.UUID | None,
    description: str | None,
    max_concurrency: int,
    ordered: bool,
    version: str,
) -> None:
    """Add an endpoint. Shows its secret: it is not shown again."""
    from fourlane.db.models import Organization
    from fourlane.tasks.webhooks import add_endpoint

    with session_here() as session:
        if organization is not None and session.get(Organization, organization) is None:
            fail(f"there is no organization {organization}")
        made = add_endpoint(
            session,
            url,
            organization_id=organization,
            description=description,
            event_types=types or ("*",),
            max_concurrency=max_concurrency,
            ordered=ordered,
            version=version,
        )
    _look_up(url)
    say(f"added {made.id}\nsecret: {made.secret}", id=str(made.id), secret=made.secret)


@endpoints.command("change")
@click.argument("endpoint_id", type=Id(), metavar="ID")
@click.option("--url")
@click.option("--type", "types", multiple=True, help="Event types in place of those before.")
@click.option("--max-concurrency", type=click.IntRange(1, 1000))
def endpoints_change(
    endpoint_id: uuid.UUID, url: str | None, types: tuple[str, ...], max_concurrency: int | None
) -> None:
    """Change what is given. What is on its way goes to the new URL."""
    from fourlane.tasks.webhooks import change_endpoint

    with session_here() as session:
        endpoint = endpoint_of(session, endpoint_id)
        change_endpoint(endpoint, url=url, event_types=types or None, max_concurrency=max_concurrency)
    if url is not None:
        _look_up(url)
    say(f"changed {endpoint_id}", id=str(endpoint_id))


def _look_up(url: str) -> None:
    """Warn of a host that could not be called now: its name may not have been entered yet."""
    from fourlane.providers import http
    from fourlane.tasks.webhooks.policy import PRIVATE_BY, policy

    try:
        http.look_up(url, timeout_seconds=_LOOK_UP_SECONDS, allow_private=policy().allow_private)
    except http.TransportError as error:
        click.echo(f"warning: now it could not be called: {http.explained(error, PRIVATE_BY)}", err=True)


@endpoints.command("rotate")
@click.argument("endpoint_id", type=Id(), metavar="ID")
@click.option("--overlap", type=Duration(), default="24h", show_default=True, help="The old secret signs too.")
def endpoints_rotate(endpoint_id: uuid.UUID, overlap: int) -> None:
    """Give an endpoint a new secret; for a while both sign."""
    from fourlane.tasks.webhooks import rows

    now = datetime.now(UTC)
    with session_here() as session:
        secret = rows.rotate(endpoint_of(session, endpoint_id), now=now, overlap=timedelta(milliseconds=overlap))
    say(f"secret: {secret}\nthe one before signs too for {human_age(overlap)}", id=str(endpoint_id), secret=secret)


@endpoints.command("disable")
@click.argument("endpoint_id", type=Id(), metavar="ID")
@click.option("--reason", default="by an operator", show_default=True)
def endpoints_disable(endpoint_id: uuid.UUID, reason: str) -> None:
    """Deliver nothing more there; what is on its way is skipped."""
    from fourlane.tasks.webhooks import rows

    with session_here() as session:
        rows.disable(session, endpoint_of(session, endpoint_id), reason, actor=_actor(), now=datetime.now(UTC))
    say(f"disabled {endpoint_id}", id=str(endpoint_id), enabled=False)


@endpoints.command("enable")
@click.argument("endpoint_id", type=Id(), metavar="ID")
def endpoints_enable(endpoint_id: uuid.UUID) -> None:
    """Deliver there again. What failed meanwhile: `fourlane webhooks resend`."""
    from fourlane.tasks.webhooks import rows

    with session_here() as session:
        rows.enable(session, endpoint_of(session, endpoint_id), actor=_actor())
    say(f"enabled {endpoint_id}", id=str(endpoint_id), enabled=True)


def _actor() -> str:
    return f"cli:{getpass.getuser()}"
