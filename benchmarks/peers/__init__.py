"""The peers by name, each in a module of its own, imported when it is asked for."""

from __future__ import annotations

import os
from importlib import import_module

from benchmarks.peers.base import Peer

__all__ = ["NAMES", "Peer", "load"]

NAMES = ("fourlane", "dramatiq", "celery", "rq", "taskiq", "huey", "bullmq")


def load(name: str, url: str, case: str = "drain") -> Peer:
    """Open a peer for a case. Raises ImportError when it is not installed, and what the peer itself raises."""
    # Peers declare their tasks where their modules are imported, by producer and workers alike: they ask these.
    os.environ["BENCH_REDIS_URL"], os.environ["BENCH_CASE"] = url, case
    peer: Peer = import_module(f"benchmarks.peers.{name}_peer").ServedPeer(url)
    return peer
