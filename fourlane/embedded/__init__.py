"""The server that comes with the package. It needs nothing but a folder."""

from __future__ import annotations

from fourlane.embedded.server import EmbeddedRedis

__all__ = ["EmbeddedRedis"]
