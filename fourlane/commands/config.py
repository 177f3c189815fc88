"""``fourlane config``: every setting."""

from __future__ import annotations

import click

from fourlane.commands.shared import print_json, wants_json
from fourlane.commands.text import lines

__all__ = ["config"]


@click.command()
def config() -> None:
    """Show every setting with its source; secrets are hidden."""
    from fourlane.config import load_settings

    rows = load_settings().describe()
    if wants_json():
        print_json({"settings": [{"name": n, "value": v, "source": s} for n, v, s in rows]})
        return
    width = max(len(name) for name, _, _ in rows)
    for name, value, source in rows:
        click.echo(f"{name:<{width}}  {lines(value)}  ({source})")
