"""Files of encrypted jobs: sealed in storage, opened for encrypted jobs alone.

A sealed file is bound to its name, which has the tenant and the job's id, and says inside which task left it and what
it is. A job that is not encrypted, whose own arguments and result anybody may read, does not get at it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from fourlane.errors import AlteredCiphertext, Reject
from fourlane.providers.ai import Media
from fourlane.sealing import open_file, seal_file
from fourlane.storage.media import is_allowed
from fourlane.storage.names import name_of
from fourlane.tasks.context import running

__all__ = ["SEALED", "closed", "is_sealing", "opened"]

SEALED: Final = "application/x-fourlane-sealed"
"""The media type of what is sealed."""


class _Head(msgspec.Struct, frozen=True):
    """What stands before the bytes."""

    task: str
    media_type: str


def is_sealing() -> bool:
    """Whether an encrypted job runs here."""
    run = running.get()
    return run is not None and run.seal is not None


def closed(name: str, media: Media) -> bytes:
    """What is stored of a file that an encrypted job leaves. Raises EncryptionError: there are no keys."""
    run = running.get()
    head = _Head("" if run is None else run.context.task, media.media_type)
    return seal_file(name, msgspec.json.encode(head) + b"\n" + media.data)


def opened(ref: str, data: bytes, *, kinds: Collection[str] | None = None, task: str | None = None) -> Media:
    """What was closed.

    Parameters:
      kinds: media types, or kinds of them, that it may be; None: any.
      task: which must have left it; None: any.

    Raises:
      Reject: a job runs here that is not encrypted, or the file is of another media type.
      EncryptionError: the key is missing, or the file was changed or moved.
    """
    if running.get() is not None and not is_sealing():
        raise Reject(f"{ref} is of an encrypted job; only a task with encrypt=True may read it")
    name = name_of(ref)
    line, _, inside = open_file(name, data).partition(b"\n")
    head = msgspec.json.decode(line, type=_Head)
    if task is not None and head.task != task:
        raise AlteredCiphertext(f"{ref} was left by the task {head.task!r}, not by {task!r}")
    if kinds is not None and not is_allowed(head.media_type, kinds):
        raise Reject(f"{ref} is {head.media_type}; allowed: {', '.join(sorted(kinds))}")
    return Media(media_type=head.media_type, data=inside, name=name.rpartition("/")[2])
