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
    from fourlane.db.models import Organization, WebhookEndpoint
    from fourlane.tasks.webhooks import rows

    if not url.startswith(("https://", "http://")):
        raise click.UsageError(f"{url!r} is no address; it begins with https://")
    for pattern in types:
        if "*" in pattern[:-1] or not pattern:
            raise click.UsageError(f"--type {pattern!r}: write it in full, or its beginning and a star: 'invoice.*'")
    made = WebhookEndpoint(
        id=uuid.uuid4(),
        organization_id=organization,
        url=url,
        description=description,
        secret=rows.new_secret(),
        event_types=list(types) or ["*"],
        max_concurrency=max_concurrency,
        ordered=ordered,
        version=version,
    )
    with session_here() as session:
        if organization is not None and session.get(Organization, organization) is None:
            fail(f"there is no organization {organization}")
        session.add(made)
    say(f"added {made.id}\nsecret: {made.secret}", id=str(made.id), secret=made.secret)


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
