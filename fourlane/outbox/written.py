"""What is written in a row, whoever wrote it. Read as text: of a batch with one moment that its driver cannot read, a
database gives none.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, cast
from uuid import UUID

import msgspec
from sqlalchemy import Table, Text
from sqlalchemy import cast as as_type

from fourlane.db.models import JobOutbox
from fourlane.errors import InvalidOption, JobTooLarge
from fourlane.names import check_tenant
from fourlane.options import LONGEST_DELAY_MS, fault_of

__all__ = ["COLUMNS", "check_size", "id_of", "moment_ms", "options_of"]

_rows = cast("Table", JobOutbox.__table__)
_PLAIN: Final = ("position", "task", "service", "tier", "args", "kwargs", "options")
_TEXTS: Final = ("id", "run_at", "organization_id", "created_at")
COLUMNS: Final = [_rows.c[name] for name in _PLAIN] + [as_type(_rows.c[name], Text).label(name) for name in _TEXTS]


def id_of(row: Any) -> str:
    """Raises ValueError."""
    return str(UUID(row.id))


def moment_ms(text: str) -> int:
    """Of a moment as a database writes it; SQLite's are UTC. Raises ValueError."""
    if text in ("infinity", "-infinity"):
        return LONGEST_DELAY_MS if text == "infinity" else 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no moment of the years 1 to 9999") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def options_of(row: Any) -> dict[str, Any]:
    """With the organization as tenant, where the row came from another program, which names it in its column only.

    Raises InvalidName, InvalidOption, ValueError.
    """
    options = msgspec.json.decode(row.options, type=dict[str, Any])
    if fault := fault_of(options):
        raise InvalidOption(fault)
    if row.organization_id is not None:
        return {"tenant": str(UUID(row.organization_id))} | options
    return options | {"tenant": check_tenant(options["tenant"])} if "tenant" in options else options


def check_size(row: Any, max_bytes: int) -> None:
    """Raises JobTooLarge; never of what a program wrote that kept to the limit."""
    size = sum(len(part.encode()) for part in (row.args, row.kwargs, row.options))
    if size > max_bytes:
        raise JobTooLarge(f"the job has {size:,} bytes, the limit is {max_bytes:,} (FOURLANE_MAX_BODY_BYTES)")
