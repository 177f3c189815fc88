"""By what an encrypted address is found, though the database cannot read it."""

from __future__ import annotations

from fourlane import crypto

__all__ = ["address_marks"]


def address_marks(channel: str, address: str) -> list[str]:
    """A mark for each key, newest first; ``notification_suppressions.address_mark`` holds one of them."""
    return crypto.keyring().marks(f"{channel}:{address}".encode(), "notification_suppressions.address")
