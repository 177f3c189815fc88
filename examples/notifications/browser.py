"""A browser as far as push goes: it subscribes, and reads what its push service is given."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

__all__ = ["Browser", "vapid_key"]


class Browser:
    """Only it can read what is encrypted for its subscription."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._auth = os.urandom(16)

    def subscription(self, endpoint: str) -> dict[str, Any]:
        """What a web page gets from its browser and hands on to us."""
        public = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return {"endpoint": endpoint, "keys": {"p256dh": _text(public), "auth": _text(self._auth)}}

    def read(self, body: bytes) -> dict[str, Any]:
        """What was encrypted for it (RFC 8291)."""
        plain = http_ece.decrypt(body, private_key=self._key, auth_secret=self._auth, version="aes128gcm")
        content: dict[str, Any] = json.loads(plain)
        return content


def vapid_key() -> str:
    """A fresh private key, by which a push service knows its sender."""
    number = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
    return _text(number.to_bytes(32, "big"))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
