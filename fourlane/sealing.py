"""Encryption of jobs: arguments and results of tasks with ``encrypt=True`` are unreadable in Redis.

A sealed job's one argument is the ciphertext of its real ones, in base64, and its options say ``sealed``. The task's
name is authenticated with it, so that a ciphertext does not open as the arguments of another task. The keys are those
of FOURLANE_ENCRYPTION_KEYS: the newest encrypts, any of them opens.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from fourlane import crypto
from fourlane.codec import Envelope
from fourlane.errors import EncryptionError
from fourlane.root import root

__all__ = ["SEALED", "is_sealed", "open_envelope", "open_result", "seal_arguments", "seal_result"]

SEALED: Final = "sealed"
"""The option of sealed jobs, and the field of sealed results."""


def is_sealed(options: Mapping[str, Any]) -> bool:
    return SEALED in options


def seal_arguments(task: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> list[str]:
    """What stands in the place of the arguments. Raises EncryptionError: there are no keys."""
    return [_seal(msgspec.json.encode((args, kwargs or {})), f"arguments:{task}")]


def open_envelope(envelope: Envelope) -> Envelope:
    """The same job with its real arguments. Raises EncryptionError: not with these keys, or it was tampered with."""
    context = f"arguments:{envelope.task}"
    if len(envelope.args) != 1 or not isinstance(envelope.args[0], str):
        raise EncryptionError(f"{context}: these are not the arguments of a sealed job")
    args, kwargs = msgspec.json.decode(_open(envelope.args[0], context), type=tuple[list[Any], dict[str, Any]])
    options = {name: value for name, value in envelope.options.items() if name != SEALED}
    return Envelope(envelope.task, args, kwargs, options, envelope.enqueued_ms)


def seal_result(task: str, value: bytes) -> bytes:
    """What is kept in the place of a result, which is given as JSON."""
    return msgspec.json.encode({SEALED: _seal(value, f"result:{task}"), "task": task})


def open_result(stored: Mapping[str, Any]) -> Any:
    """The result again. Raises EncryptionError."""
    return msgspec.json.decode(_open(str(stored[SEALED]), f"result:{stored['task']}"))


def _ring() -> crypto.Keyring:
    if not crypto.is_configured():
        crypto.configure_from(root().settings)
    return crypto.keyring()


def _seal(data: bytes, context: str) -> str:
    return base64.b64encode(_ring().encrypt(data, context)).decode()


def _open(text: str, context: str) -> bytes:
    try:
        return _ring().decrypt(base64.b64decode(text, validate=True), context)
    except binascii.Error:
        raise EncryptionError(f"{context}: this is no ciphertext of ours") from None
