"""``fourlane ai batches``: what is asked in batches, and how far that is."""

from __future__ import annotations

import click

from fourlane.commands.shared import open_store, print_json, wants_json
from fourlane.commands.text import since, table

__all__ = ["batches"]


@click.command()
def batches() -> None:
    """Tell which AI requests wait for a batch, and which batches are under way."""
    from fourlane.tasks.ai.batches.shown import shown

    with open_store() as store:
        found = shown(store)
    if wants_json():
        print_json({"batches": [one._asdict() for one in found]})
        return
    table(
        ["PROVIDER", "MODEL", "BATCH", "REQUESTS", "DONE", "AGE", "STATE"],
        [
            (one.provider, one.model[:24], one.id[-16:], one.requests, one.answered, since(one.since_ms), one.state)
            for one in found
        ],
        "no AI request waits for a batch, and no batch is under way",
    )
