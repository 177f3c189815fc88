"""The peers by name, each in a module of its own, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

from benchmarks.peers.base import Peer

__all__ = ["NAMES", "Peer", "load"]

NAMES = ("fourlane", "dramatiq", "celery", "rq", "taskiq", "huey", "bullmq")


def load(name: str, url: str) -> Peer:
    """Open a peer. Raises ImportError when it is not installed, and what the peer itself raises."""
    found = import_module(f"benchmarks.peers.{name}_peer")
    peer: Peer = found.ServedPeer(url)
    return peer
