"""``fourlane relay``: moves the outbox's jobs to Redis."""

from __future__ import annotations

import logging
import signal
import sys
import threading

import click

from fourlane.commands.shared import open_app, say

__all__ = ["relay"]


@click.command()
@click.option("--once", is_flag=True, help="Move what is there, then end.")
def relay(once: bool) -> None:
    """Move committed jobs of the outbox to Redis, until SIGTERM or Ctrl-C. Any number of relays may run."""
    from fourlane.outbox.relay import PATIENCE_SECONDS, relay_of
    from fourlane.queues.rights import check_whole
    from fourlane.watchdog import Watchdog, ping_of

    with open_app() as app:
        logging.basicConfig(
            level=app.settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
        )
        store = app.store
        check_whole(store)
        mover = relay_of(app.root, store)
        # The first batch here, so that what is wrong from the start ends in a line and not in a loop.
        moved = mover.drain() if once else mover.step()
        if once:
            say(f"{moved:,} row(s): {mover.relayed:,} relayed, {mover.failed:,} failed", relayed=mover.relayed,
                failed=mover.failed)  # fmt: skip
            return
        stop = threading.Event()
        for caught in (signal.SIGTERM, signal.SIGINT):
            signal.signal(caught, lambda *_: stop.set())
        click.echo(f"ready: relaying from {mover.database} to {store.connector.address}", err=True)
        watchdog = Watchdog(PATIENCE_SECONDS)
        watchdog.start(ping_of(store.connector, store.keys.services))
        mover.run(stop, watchdog)
