"""``fourlane webhooks deliveries`` and ``resend``: what was delivered, and what is to be delivered again."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from fourlane.commands.db import open_database
from fourlane.commands.shared import Duration, Group, confirm, fail, print_json, say, wants_json, yes_option
from fourlane.commands.text import human_age, lines, table
from fourlane.commands.webhooks.rows import MOST, Id, ago, endpoint_of, fields, session_here

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from fourlane.db.models import WebhookDelivery

__all__ = ["deliveries", "resend"]

_STATUSES: Final = ("pending", "delivered", "failed", "skipped")
_SHOWN: Final = (
    "id",
    "endpoint_id",
    "organization_id",
    "event_id",
    "event_type",
    "order_key",
    "status",
    "attempts",
    "job_id",
    "created_at",
    "delivered_at",
    "payload",
    "request_headers",
    "response_status",
    "response_headers",
    "response_body",
    "latency_ms",
    "error",
)


@dataclass(frozen=True, kw_only=True)
class _Filter:
    """Which deliveries."""

    endpoint_id: uuid.UUID | None = None
    status: str | None = None
    event_type: str | None = None
    newer_than: int | None = None

    def find(self, session: Session, limit: int, ids: tuple[uuid.UUID, ...] = ()) -> list[WebhookDelivery]:
        from fourlane.tasks.webhooks import rows

        if self.endpoint_id is not None:
            endpoint_of(session, self.endpoint_id)  # a mistyped id is an error, and not an empty list
        since = None if self.newer_than is None else datetime.now(UTC) - timedelta(milliseconds=self.newer_than)
        return list(
            rows.find_deliveries(
                session,
                ids=ids,
                endpoint_id=self.endpoint_id,
                status=self.status,
                event_type=self.event_type,
                since=since,
                limit=limit,
            )
        )


def _filter_options(status_help: str | None = None) -> Callable[[Any], Any]:
    def add(command: Any) -> Any:
        for option in (
            click.option("--newer-than", type=Duration(), help="Made less long ago: 10m, 2h, 7d."),
            click.option("--type", "event_type", help="Only this event type."),
            click.option("--status", type=click.Choice(_STATUSES), help=status_help),
            click.option("--endpoint", "endpoint_id", type=Id(), help="Only to this one."),
        ):
            command = option(command)
        return command

    return add


@click.group("deliveries", cls=Group)
def deliveries() -> None:
    """What was delivered."""


@deliveries.command("list")
@_filter_options()
@click.option("--limit", type=click.IntRange(1, MOST), default=50, show_default=True)
def deliveries_list(limit: int, **which: Any) -> None:
    """List deliveries, the latest first."""
    with session_here() as session:
        found = _Filter(**which).find(session, limit)
    if wants_json():
        print_json({"deliveries": [fields(delivery, _SHOWN) for delivery in found]})
        return
    table(
        ["ID", "MADE", "TYPE", "STATUS", "ATTEMPTS", "ANSWER", "MS", "ERROR"],
        [
            (
                str(delivery.id),
                ago(delivery.created_at),
                delivery.event_type,
                delivery.status,
                delivery.attempts,
                delivery.response_status,
                delivery.latency_ms,
                delivery.error,
            )
            for delivery in found
        ],
        "no deliveries",
    )


@deliveries.command("show")
@click.argument("delivery_id", type=Id(), metavar="ID")
def deliveries_show(delivery_id: uuid.UUID) -> None:
    """Show a delivery with its last request and answer."""
    with session_here() as session:
        found = _Filter().find(session, 1, (delivery_id,))
    if not found:
        fail(f"there is no delivery {delivery_id}")
    shown = fields(found[0], _SHOWN)
    if wants_json():
        print_json(shown)
        return
    for name, value in shown.items():
        if isinstance(value, dict):
            click.echo(f"{name}:")
            for key, item in value.items():
                click.echo(f"  {key}: {lines(str(item))}")
        elif value is not None:
            click.echo(f"{name}: {lines(str(value))}")


@deliveries.command("purge")
@click.option("--older-than", type=Duration(), required=True, help="Made longer ago: 30d.")
@yes_option
def deliveries_purge(older_than: int, yes: bool) -> None:
    """Drop deliveries that have ended, for good."""
    from fourlane.tasks.webhooks.endpoints import purge_older

    confirm(f"Drop what was made over {human_age(older_than)} ago, for good?", yes)
    with open_database() as database:
        number = purge_older(database, datetime.now(UTC) - timedelta(milliseconds=older_than))
    say(f"dropped {number:,} deliveries", dropped=number)


@click.command("resend")
@click.argument("ids", nargs=-1, type=Id(), metavar="[ID]...")
@_filter_options(status_help="failed, unless ids are given.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@yes_option
def resend(ids: tuple[uuid.UUID, ...], dry_run: bool, yes: bool, **which: Any) -> None:
    """Deliver again, under the same webhook-ids: these IDs, or what failed and fits (at most 10,000 a call).

    Of what is pending only that whose job is gone: it was cancelled, purged or lost.
    """
    from fourlane.tasks.webhooks.events import may_be_resent
    from fourlane.tasks.webhooks.events import resend as deliver_again

    if not ids and not any(which.values()):
        raise click.UsageError("give ids, or a filter such as --endpoint or --newer-than")
    wanted = _Filter(**which | {"status": which["status"] or (None if ids else "failed")})
    with session_here() as session:
        found = may_be_resent(session, wanted.find(session, MOST, ids))
        if missing := set(ids) - {delivery.id for delivery in found}:
            fail(f"there is no delivery {next(iter(missing))} that has ended or lost its job")
        if dry_run:
            say(f"{len(found):,} would be delivered again", would_resend=len(found))
            return
        if found and not ids:
            confirm(f"Deliver {len(found):,} again?", yes)
        number = deliver_again(session, found)
    say(f"{number:,} are on their way", resent=number)
