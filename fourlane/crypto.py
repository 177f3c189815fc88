"""Encryption of what must not be read in a store: AES-256-GCM, with keys that can be rotated.

A ciphertext is the byte 1, 4 bytes that name the key, 12 of nonce, then the data and its tag. The name is the
beginning of the key's SHA-256, so that keys need no numbering, and the right one is found among many.
The context says where the data belongs (``table.column``, ``job:ID``); it is authenticated, not stored, so that a
ciphertext moved elsewhere does not decrypt.
"""

from __future__ import annotations

import hmac
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fourlane import private
from fourlane.errors import AlteredCiphertext, EncryptionError
from fourlane.keytext import NAME_BYTES, name_of, new_key, read_keys, split_keys

if TYPE_CHECKING:
    from fourlane.config.groups.database import EncryptionSettings

__all__ = ["Keyring", "configure", "configure_from", "is_configured", "key_of_file", "keyring", "new_key"]

_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_HEADER_BYTES: Final = len(_VERSION) + NAME_BYTES + _NONCE_BYTES
_TAG_BYTES: Final = 16


class Keyring:
    """Encrypts with the newest of its keys, decrypts with any.

    Parameters:
      keys: newest first, 32 bytes each, base64 (as :func:`new_key` makes them).

    Raises EncryptionError for a key that is none; the message does not repeat it.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise EncryptionError("encryption needs the package cryptography; pip install 'fourlane[db]'") from None
        self._ciphers: dict[bytes, Any] = {}
        self._mark_keys: dict[bytes, bytes] = {}
        for key in _read(keys):
            name = name_of(key)
            self._ciphers.setdefault(name, AESGCM(key))
            self._mark_keys.setdefault(name, hmac.digest(key, b"fourlane marks", "sha256"))
        if not self._ciphers:
            raise EncryptionError("no encryption key is given; set FOURLANE_ENCRYPTION_KEYS")
        self._newest = next(iter(self._ciphers))

    def encrypt(self, data: bytes, context: str) -> bytes:
        """The data, readable only with this key and context."""
        return self._encrypt(os.urandom(_NONCE_BYTES), data, context)

    def encrypt_alike(self, data: bytes, context: str) -> bytes:
        """As encrypt, but the same each time: who reads two of them sees whether their data are equal, and no more.

        The nonce is made of the key, the context and the data, so that none serves for two that differ.
        """
        text = b"nonce\0" + context.encode() + b"\0" + data
        nonce = hmac.digest(self._mark_keys[self._newest], text, "sha256")[:_NONCE_BYTES]
        return self._encrypt(nonce, data, context)

    def _encrypt(self, nonce: bytes, data: bytes, context: str) -> bytes:
        header = _VERSION + self._newest + nonce
        sealed: bytes = self._ciphers[self._newest].encrypt(nonce, data, _bound(header, context))
        return header + sealed

    def decrypt(self, sealed: bytes, context: str) -> bytes:
        """The data again.

        Raises:
          EncryptionError: it is not ours, or its key is not in the ring.
          AlteredCiphertext: it was changed or moved.
        """
        name = self._name_of(sealed)
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise EncryptionError(
                f"{context}: was encrypted with the key {name.hex()}, which is not in FOURLANE_ENCRYPTION_KEYS; "
                "put that key back, behind the newest"
            )
        from cryptography.exceptions import InvalidTag

        nonce = sealed[len(_VERSION) + NAME_BYTES : _HEADER_BYTES]
        try:
            data: bytes = cipher.decrypt(nonce, sealed[_HEADER_BYTES:], _bound(sealed[:_HEADER_BYTES], context))
        except InvalidTag:
            raise AlteredCiphertext(f"{context}: was changed, or belongs elsewhere") from None
        return data

    def encrypted(self, data: bytes) -> bool:
        """Whether one of its keys did, by the head; only decrypt proves it."""
        is_long = len(data) >= _HEADER_BYTES + _TAG_BYTES
        return is_long and data[:1] == _VERSION and data[len(_VERSION) : len(_VERSION) + NAME_BYTES] in self._ciphers

    def marks(self, data: bytes, context: str) -> list[str]:
        """A mark of the data for each key, newest first: what is encrypted can be found by it, and what others may
        read is proved by it to be ours. The data cannot be guessed from it without the key.
        """
        text = context.encode() + b"\0" + data
        return [hmac.digest(key, text, "sha256").hex() for key in self._mark_keys.values()]

    @property
    def current_prefix(self) -> bytes:
        """How all begins that the newest key encrypted. Else an older key did: time to encrypt it anew."""
        return _VERSION + self._newest

    @staticmethod
    def _name_of(sealed: bytes) -> bytes:
        if sealed[:1] != _VERSION or len(sealed) < _HEADER_BYTES + _TAG_BYTES:
            raise AlteredCiphertext("these bytes were not encrypted by Fourlane")
        return sealed[len(_VERSION) : len(_VERSION) + NAME_BYTES]


def key_of_file(file: Path) -> str:
    """The key in a file that only this user can read; made when there is none. For a developer's machine.

    Raises EncryptionError when the file can be neither read nor made.
    """
    try:
        return _read_or_make(file)
    except OSError as error:
        raise EncryptionError(f"{file}: cannot be read or made ({error.strerror}); free the place for it") from None


def _read_or_make(file: Path) -> str:
    private.folder(file.parent)
    private.tighten(file)
    draft = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}")
    if not file.exists():
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
            made.write(new_key() + "\n")
        # Of several processes that make one at once, the first wins.
        with suppress(FileExistsError):
            os.link(draft, file)
        draft.unlink()
    return file.read_text().strip()


_keyring: Keyring | None = None


def configure(ring: Keyring | None) -> None:
    """The keys that this process uses from now on. Encrypted columns have no other way to them."""
    global _keyring
    _keyring = ring


def configure_from(settings: EncryptionSettings) -> None:
    """Those of FOURLANE_ENCRYPTION_KEYS; locally, without any, a key in the data folder. Raises EncryptionError."""
    if settings.encryption_keys is not None:
        configure(Keyring(split_keys(settings.encryption_keys.get_secret_value())))
    elif settings.environment == "local":
        configure(Keyring([key_of_file(settings.data_dir / "encryption.key")]))


def is_configured() -> bool:
    """Whether this process has keys."""
    return _keyring is not None


def keyring() -> Keyring:
    """The keys of this process. Raises EncryptionError when there are none."""
    if _keyring is None:
        raise EncryptionError(
            "FOURLANE_ENCRYPTION_KEYS is not set, and this data is only kept encrypted; "
            "set it to a key of 32 bytes, base64: `openssl rand -base64 32` makes one"
        )
    return _keyring


def _read(keys: Iterable[str]) -> list[bytes]:
    try:
        return read_keys(keys)
    except ValueError as error:
        raise EncryptionError(f"FOURLANE_ENCRYPTION_KEYS: {error}") from None


def _bound(header: bytes, context: str) -> bytes:
    return header + context.encode()
