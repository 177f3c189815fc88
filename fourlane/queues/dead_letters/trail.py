"""Who did what to dead letters."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from fourlane.job import message_id_of
from fourlane.queues import browse
from fourlane.queues.dead_letters.letters import Filter
from fourlane.queues.store import Store

__all__ = ["AuditRecord", "audit", "note"]

_AUDIT_KEPT: Final = 10_000


class AuditRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who did what to how many dead letters."""

    who: str
    when_ms: int
    action: str
    count: int
    filter: dict[str, Any] | None = None
    ids: list[str] | None = None


def audit(store: Store, limit: int = 100) -> list[AuditRecord]:
    """Who replayed, discarded, edited and imported, the latest first; 10,000 are kept."""
    key = store.keys.audit
    lines = store.connector.command(key, "LRANGE", key, 0, limit - 1)
    return [msgspec.json.decode(line, type=AuditRecord) for line in lines]


def note(store: Store, action: str, which: Filter | Sequence[str] | None, done: int, by: str | None) -> None:
    """Write the audit record."""
    record = AuditRecord(
        who=by or _this_user(),
        when_ms=browse.now_ms(store),
        action=action,
        count=done,
        filter=msgspec.to_builtins(which) if isinstance(which, Filter) else None,
        ids=[message_id_of(i) for i in which[:100]] if which and not isinstance(which, Filter) else None,
    )
    key = store.keys.audit
    store.connector.run("audit", [key], (msgspec.json.encode(record), _AUDIT_KEPT))


def _this_user() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container's user without a name
        return f"?@{socket.gethostname()}"
