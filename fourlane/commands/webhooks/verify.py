"""``fourlane webhooks verify``: whether a request is its sender's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import IO

import click

from fourlane.commands.shared import fail, say
from fourlane.commands.text import moment

__all__ = ["verify"]


@click.command("verify")
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
