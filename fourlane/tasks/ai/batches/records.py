"""What is kept of a request and of a batch."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Open", "Whose", "packed"]


class Whose(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whose a request is: what finds its job, and what books its answer when the job is no more.

    key, day: of the books. full: ``provider/model``. sealed: an encrypted job's.
    """

    job: str
    service: str
    task: str
    operation: str
    key: str
    day: str
    full: str
    tenant: str = ""
    sealed: bool = False


class Open(msgspec.Struct, frozen=True, omit_defaults=True):
    """A batch that is not over.

    state: ``forming``: not known to be submitted. ``unsure``: one of ``candidates`` may be it. ``sent``. ``ended``: all
      its results were written, and some jobs do not know yet.
    id: the provider's.
    requests, answered: as far as known. word: the provider's own, for its state.
    tried: a submission was begun. lost_ms: since when it is known that nobody heard how that ended.
    """

    model: str
    formed_ms: int
    state: Literal["forming", "unsure", "sent", "ended"] = "forming"
    id: str = ""
    requests: int = 0
    answered: int = 0
    word: str = ""
    tried: bool = False
    tried_ms: int = 0
    lost_ms: int = 0
    sent_ms: int = 0
    look_ms: int = 0
    cancelled_ms: int = 0
    candidates: tuple[str, ...] = ()


def packed(record: msgspec.Struct) -> bytes:
    return msgspec.json.encode(record)
