"""``fourlane doctor``: what is wrong with the server, the keys, the outbox, deliveries and the event queues."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import click

from fourlane.commands.shared import open_app, open_store, print_json, wants_json
from fourlane.commands.text import lines

if TYPE_CHECKING:
    from fourlane.queues.doctor import Finding

__all__ = ["doctor"]

_LEVEL_COLORS: Final = {"ok": "green", "warn": "yellow", "error": "red"}


@click.command()
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Look for what is wrong with the server, the keys, the outbox, deliveries and the event queues.

    Exit code 1 when there is an error.
    """
    from fourlane.queues import browse
    from fourlane.queues.doctor import Level, examine

    with open_store() as store:
        findings = [*examine(store, workers=browse.workers(store)), *_database(), *_event_queues(), *_models()]
    if wants_json():
        print_json({"findings": findings})
    else:
        for finding in findings:
            level = click.style(f"{finding.level.value:<5}", fg=_LEVEL_COLORS[finding.level.value])
            click.echo(f"{level}  {finding.name:<12}  {lines(finding.text)}")
            if finding.fix:
                click.echo(f"{'':<21}→ {finding.fix}")
    if any(finding.level is Level.ERROR for finding in findings):
        ctx.exit(1)


def _database() -> list[Finding]:
    """Outbox and deliveries, where there is a database."""
    from fourlane.config import load_settings
    from fourlane.db.setup import has_database

    if not has_database(load_settings()):
        return []
    with open_app() as app:
        from fourlane.outbox.doctor import examine_outbox
        from fourlane.tasks.webhooks.doctor import examine_deliveries

        return [*examine_outbox(app.database), *examine_deliveries(app.database, app.store)]


def _event_queues() -> list[Finding]:
    """Where there are some: the environment says something of AWS, and boto3 is installed."""
    if find_spec("boto3") is None:
        return []
    from fourlane.errors import EventsUnavailable
    from fourlane.events.aws import is_configured
    from fourlane.events.doctor import examine_queues

    if not is_configured():
        return []
    try:
        with open_app() as app:
            return examine_queues(app.aws, app.settings.environment)
    except EventsUnavailable:
        return []  # no region: other AWS settings, for another program


def _models() -> list[Finding]:
    """Of AI, those that the settings name and that end."""
    from fourlane.config import load_settings
    from fourlane.queues.doctor import Finding, Level

    options = load_settings().ai
    if not options.model_fields_set:
        return []
    from fourlane.tasks.ai.models import ends

    fix = "name its successor in FOURLANE_AI"
    return [Finding(Level.WARN, "ai models", text, fix) for text in ends.warnings(options)]
