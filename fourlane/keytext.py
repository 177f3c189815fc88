"""Encryption keys as text, as FOURLANE_ENCRYPTION_KEYS has them: newest first, commas between them."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable
from typing import Final

__all__ = ["new_key", "read_keys", "split_keys"]

_KEY_BYTES: Final = 32


def new_key() -> str:
    """A fresh key."""
    return base64.b64encode(os.urandom(_KEY_BYTES)).decode()


def split_keys(text: str) -> list[str]:
    return text.split(",")


def read_keys(keys: Iterable[str]) -> list[bytes]:
    """Raises ValueError for a key that is none; it does not repeat it."""
    return [_read(text, number) for number, text in enumerate(keys, 1)]


def _read(text: str, number: int) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise ValueError(f"key {number} is not 32 bytes in base64; `openssl rand -base64 32` makes one")
    return key
