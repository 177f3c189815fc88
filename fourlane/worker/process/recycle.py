"""Processes that have done, lived or grown enough are started anew, one at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fourlane.worker.process.child import Child
from fourlane.worker.process.options import Options

__all__ = ["recycle"]

log = logging.getLogger("fourlane.supervisor")


def recycle(children: Sequence[Child], options: Options, now: float) -> None:
    """Stop the first that is over one of its limits, when none stops already."""
    if any(child.stopping_since for child in children):
        return
    for child in children:
        if (
            (options.recycle_jobs and child.table.finished >= options.recycle_jobs)
            or (options.recycle_seconds and now - child.started_at >= options.recycle_seconds)
            or (options.recycle_rss_mb and child.rss_mb() >= options.recycle_rss_mb)
        ):
            done, rss_mb = child.table.finished, child.rss_mb()
            log.info("recycle process=%d jobs=%d rss_mb=%.0f", child.number, done, rss_mb)
            child.stop()
            return
