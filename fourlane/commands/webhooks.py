"""``fourlane webhooks``: endpoints, what was delivered to them, and whether a request is genuine."""

from __future__ import annotations

import getpass
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Any, Final

import click

from fourlane.commands.db import open_database
from fourlane.commands.shared import Duration, Group, confirm, fail, print_json, say, wants_json, yes_option
from fourlane.commands.text import human_age, lines, moment, since, table

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from fourlane.db.models import WebhookDelivery, WebhookEndpoint

__all__ = ["webhooks"]

_MOST: Final = 10_000
_STATUSES: Final = ("pending", "delivered", "failed", "skipped")


class Id(click.ParamType):  # type: ignore[type-arg]
    """An id of the database."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> uuid.UUID:
        try:
            return uuid.UUID(str(value))
        except ValueError:
            self.fail(f"{value!r} is no id; write it as `list` shows it", param, ctx)


@click.group(cls=Group)
def webhooks() -> None:
    """Webhooks that go out to endpoints, and those that come in."""


@contextmanager
def _session() -> Iterator[Session]:
    with open_database() as database, database.begin() as session:
        yield session


def _actor() -> str:
    return f"cli:{getpass.getuser()}"


def _since(at: datetime | None) -> str:
    return since(None if at is None else int(at.timestamp() * 1000))


# Endpoints -------------------------------------------------------------------------------------------------


@webhooks.group("endpoints")
def endpoints() -> None:
    """Where webhooks go."""


@endpoints.command("list")
def endpoints_list() -> None:
    """List the endpoints."""
    from fourlane.tasks.webhooks import rows

    with _session() as session:
        found = rows.find_endpoints(session, limit=_MOST)
    if wants_json():
        print_json({"endpoints": [_endpoint(endpoint) for endpoint in found]})
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
                _since(endpoint.failing_since),
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
    with _session() as session:
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
    with _session() as session:
        secret = rows.rotate(_get(session, endpoint_id), now=now, overlap=timedelta(milliseconds=overlap))
    say(f"secret: {secret}\nthe one before signs too for {human_age(overlap)}", id=str(endpoint_id), secret=secret)


@endpoints.command("disable")
@click.argument("endpoint_id", type=Id(), metavar="ID")
@click.option("--reason", default="by an operator", show_default=True)
def endpoints_disable(endpoint_id: uuid.UUID, reason: str) -> None:
    """Deliver nothing more there; what is on its way is skipped."""
    from fourlane.tasks.webhooks import rows

    with _session() as session:
        rows.disable(session, _get(session, endpoint_id), reason, actor=_actor(), now=datetime.now(UTC))
    say(f"disabled {endpoint_id}", id=str(endpoint_id), enabled=False)


@endpoints.command("enable")
@click.argument("endpoint_id", type=Id(), metavar="ID")
def endpoints_enable(endpoint_id: uuid.UUID) -> None:
    """Deliver there again. What failed meanwhile: `fourlane webhooks resend`."""
    from fourlane.tasks.webhooks import rows

    with _session() as session:
        rows.enable(session, _get(session, endpoint_id), actor=_actor())
    say(f"enabled {endpoint_id}", id=str(endpoint_id), enabled=True)


def _get(session: Session, endpoint_id: uuid.UUID) -> WebhookEndpoint:
    from fourlane.db.models import WebhookEndpoint

    found = session.get(WebhookEndpoint, endpoint_id)
    if found is None:
        fail(f"there is no endpoint {endpoint_id}; `fourlane webhooks endpoints list` lists them")
    return found


def _endpoint(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """All but the secrets."""
    names = (
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
    return {name: _plain(getattr(endpoint, name)) for name in names}


# Deliveries ------------------------------------------------------------------------------------------------


@webhooks.group("deliveries")
def deliveries() -> None:
    """What was delivered."""


@deliveries.command("list")
@click.option("--endpoint", "endpoint_id", type=Id(), help="Only to this one.")
@click.option("--status", type=click.Choice(_STATUSES))
@click.option("--type", "event_type", help="Only this event type.")
@click.option("--newer-than", type=Duration(), help="Made less long ago: 10m, 2h, 7d.")
@click.option("--limit", type=click.IntRange(1, _MOST), default=50, show_default=True)
def deliveries_list(
    endpoint_id: uuid.UUID | None, status: str | None, event_type: str | None, newer_than: int | None, limit: int
) -> None:
    """List deliveries, the latest first."""
    with _session() as session:
        found = _find(session, (), endpoint_id, status, event_type, newer_than, limit)
    if wants_json():
        print_json({"deliveries": [_delivery(delivery) for delivery in found]})
        return
    table(
        ["ID", "MADE", "TYPE", "STATUS", "ATTEMPTS", "ANSWER", "MS", "ERROR"],
        [
            (
                str(delivery.id),
                _since(delivery.created_at),
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
    with _session() as session:
        found = _find(session, (delivery_id,), None, None, None, None, 1)
    if not found:
        fail(f"there is no delivery {delivery_id}")
    shown = _delivery(found[0])
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


@webhooks.command("resend")
@click.argument("ids", nargs=-1, type=Id(), metavar="[ID]...")
@click.option("--endpoint", "endpoint_id", type=Id(), help="Only to this one.")
@click.option("--status", type=click.Choice(_STATUSES), help="failed, unless ids are given.")
@click.option("--type", "event_type", help="Only this event type.")
@click.option("--newer-than", type=Duration(), help="Made less long ago: 10m, 2h, 7d.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@yes_option
def resend(
    ids: tuple[uuid.UUID, ...],
    endpoint_id: uuid.UUID | None,
    status: str | None,
    event_type: str | None,
    newer_than: int | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Deliver again, under the same webhook-ids: these IDs, or what failed and fits (at most 10,000 a call)."""
    from fourlane.tasks.webhooks.endpoints import resend as deliver_again

    if not ids and not any((endpoint_id, status, event_type, newer_than)):
        raise click.UsageError("give ids, or a filter such as --endpoint or --newer-than")
    wanted = status or (None if ids else "failed")
    with _session() as session:
        found = [
            delivery
            for delivery in _find(session, ids, endpoint_id, wanted, event_type, newer_than, _MOST)
            if delivery.status != "pending"
        ]
        if missing := set(ids) - {delivery.id for delivery in found}:
            fail(f"there is no delivery {next(iter(missing))} that has ended")
        if dry_run:
            say(f"{len(found):,} would be delivered again", would_resend=len(found))
            return
        if found and not ids:
            confirm(f"Deliver {len(found):,} again?", yes)
        number = deliver_again(session, found)
    say(f"{number:,} are on their way", resent=number)


def _find(
    session: Session,
    ids: tuple[uuid.UUID, ...],
    endpoint_id: uuid.UUID | None,
    status: str | None,
    event_type: str | None,
    newer_than: int | None,
    limit: int,
) -> list[WebhookDelivery]:
    from fourlane.tasks.webhooks import rows

    if endpoint_id is not None:
        _get(session, endpoint_id)  # a mistyped id is an error, and not an empty list
    return list(
        rows.find_deliveries(
            session,
            ids=ids,
            endpoint_id=endpoint_id,
            status=status,
            event_type=event_type,
            since=None if newer_than is None else datetime.now(UTC) - timedelta(milliseconds=newer_than),
            limit=limit,
        )
    )


def _delivery(delivery: WebhookDelivery) -> dict[str, Any]:
    names = (
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
    return {name: _plain(getattr(delivery, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value


# Those that come in ----------------------------------------------------------------------------------------


@webhooks.command("verify")
@click.argument("provider", type=click.Choice(["stripe", "paypal", "supabase"]))
@click.argument("body", type=click.File("rb"), default="-")
@click.option("--header", "-H", "headers", multiple=True, metavar="'NAME: VALUE'", help="One of the request's headers.")
@click.option("--at", help="When it arrived, with a time zone; now by default.")
def verify(provider: str, body: IO[bytes], headers: tuple[str, ...], at: str | None) -> None:
    """Say whether a request is the PROVIDER's: its BODY as it came, and its headers. The secrets are the settings'."""
    from fourlane.config import load_settings
    from fourlane.webhooks.setup import senders
    from fourlane.webhooks.verify import Refused, Unverifiable
    from fourlane.webhooks.verify import verify as check

    given = dict(_header(header) for header in headers)
    arrived = _arrival(at)
    try:
        event = check(
            provider,
            given,
            body.read(),
            senders=senders(load_settings()),
            now_seconds=arrived.timestamp(),
        )
    except (Refused, Unverifiable) as error:
        fail(str(error))
    say(
        f"genuine: {event.type} {event.id}"
        + (f", signed {moment(event.sent_at_seconds * 1000)}" if event.sent_at_seconds else ""),
        genuine=True,
        id=event.id,
        type=event.type,
        subject=event.subject,
    )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise click.UsageError(f"--header {text!r}: write 'NAME: VALUE'")
    return name.strip(), value.strip()


def _arrival(at: str | None) -> datetime:
    if at is None:
        return datetime.now(UTC)
    try:
        arrived = datetime.fromisoformat(at)
    except ValueError:
        raise click.UsageError(f"--at {at!r} is no time; write 2026-01-31T12:00:00Z") from None
    if arrived.tzinfo is None:
        raise click.UsageError(f"--at {at!r} has no time zone; write {at}Z or {at}+01:00")
    return arrived
