"""Encryption keys as text, as FOURLANE_ENCRYPTION_KEYS has them: newest first, commas between them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable
from typing import Final

__all__ = ["NAME_BYTES", "name_of", "new_key", "read_keys", "split_keys"]

NAME_BYTES: Final = 4
_KEY_BYTES: Final = 32


def new_key() -> str:
    """A fresh key."""
    return base64.b64encode(os.urandom(_KEY_BYTES)).decode()


def split_keys(text: str) -> list[str]:
    return text.split(",")


def read_keys(keys: Iterable[str]) -> list[bytes]:
    """Raises ValueError for a key that is none, and for two that could not be told apart; it does not repeat them."""
    read = [_read(text, number) for number, text in enumerate(keys, 1)]
    first: dict[bytes, int] = {}
    for number, key in enumerate(read, 1):
        before = first.setdefault(name_of(key), number)
        if read[before - 1] != key:
            raise ValueError(f"keys {before} and {number} have one name, {name_of(key).hex()}; make another new key")
    return read


def name_of(key: bytes) -> bytes:
    """By which a ciphertext names its key. Of two keys one in four billion have the same."""
    return hashlib.sha256(key).digest()[:NAME_BYTES]


def _read(text: str, number: int) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise ValueError(f"key {number} is not 32 bytes in base64; `openssl rand -base64 32` makes one")
    return key
