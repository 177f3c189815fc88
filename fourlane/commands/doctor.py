"""``fourlane doctor``: what is wrong with the server and the keys."""

from __future__ import annotations

from typing import Final

import click

from fourlane.commands.shared import open_store, print_json, wants_json
from fourlane.commands.text import lines

__all__ = ["doctor"]

_LEVEL_COLORS: Final = {"ok": "green", "warn": "yellow", "error": "red"}


@click.command()
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Look for what is wrong with the server and the keys. Exit code 1 when there is an error."""
    from fourlane.queues import browse
    from fourlane.queues.doctor import Level, examine

    with open_store() as store:
        findings = examine(store, workers=browse.workers(store))
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
