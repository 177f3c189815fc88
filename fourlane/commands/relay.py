"""``fourlane relay``: moves the outbox's jobs to Redis."""

from __future__ import annotations

import signal
import threading

import click

from fourlane.commands.shared import open_app, say, settings_of_program

__all__ = ["relay"]


@click.command()
@click.option("--once", is_flag=True, help="Move what is there, then end.")
def relay(once: bool) -> None:
    """Move committed jobs of the outbox to Redis, until SIGTERM or Ctrl-C. Any number of relays may run."""
    from fourlane.observe.logs import announce
    from fourlane.outbox.relay import PATIENCE_SECONDS, relay_of
    from fourlane.queues.rights import check_whole
    from fourlane.watchdog import Watchdog, ping_of

    with open_app(settings_of_program()) as app:
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
        announce(f"ready: relaying from {mover.database} to {store.connector.address}")
        watchdog = Watchdog(PATIENCE_SECONDS)
        watchdog.start(ping_of(store.connector, store.keys.services))
        mover.run(stop, watchdog)
