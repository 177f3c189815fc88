"""``fourlane workers``: the worker processes."""

from __future__ import annotations

import click

from fourlane.commands.shared import open_store, print_json, wants_json
from fourlane.commands.text import since, table

__all__ = ["workers"]


@click.command()
def workers() -> None:
    """Show the worker processes."""
    from fourlane.queues import browse

    with open_store() as store:
        found = browse.workers(store)
    if wants_json():
        print_json({"workers": found})
        return
    table(
        [
            "WORKER",
            "HOST",
            "PID",
            "STARTED",
            "SEEN",
            "PROCESSES",
            "SLOTS",
            "ASYNC",
            "HELD",
            "VERSION",
            "STATE",
            "QUEUES",
        ],
        [
            (
                worker.name,
                worker.host,
                str(worker.pid),
                since(worker.started_ms),
                since(worker.seen_ms),
                worker.processes,
                worker.slots,
                worker.concurrency,
                worker.held,
                worker.version,
                "lost" if worker.lost else "running",
                ", ".join(worker.queues),
            )
            for worker in found
        ],
        "no workers",
    )
