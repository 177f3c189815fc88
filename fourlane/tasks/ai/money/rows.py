"""The rows of ``ai_operation_logs``: one for each call. What the database does not take now is written later."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fourlane.errors import DatabaseUnavailable
from fourlane.tasks.ai.money.row_writer import writer_of

if TYPE_CHECKING:
    from fourlane.db.engine import Database
    from fourlane.queues.guards import Budgets

__all__ = ["Row", "row_of", "write_later", "write_or_keep"]

log = logging.getLogger("fourlane.ai")

_ERROR_CHARACTERS: Final = 1_000
_MOST_AT_ONCE: Final = 5_000
_MOST_FAILED: Final = 3  # then it is the database, and not the row


class Row(msgspec.Struct, frozen=True):
    """A row, as it is kept while the database is away."""

    id: str
    at_ms: int
    tenant: str | None
    job_id: str | None
    operation: str
    task: str
    provider: str
    model: str
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    nano_usd: int
    cost_estimated: bool
    cost_known: bool
    duration_ms: int
    first_token_ms: int | None
    outcome: str
    error_message: str | None

    def packed(self) -> bytes:
        return msgspec.json.encode(self)

    def columns(self) -> dict[str, Any]:
        """As the table has them."""
        same = {"tenant", "job_id", "operation", "task", "provider", "model", "input_tokens", "cached_input_tokens"}
        same |= {"output_tokens", "reasoning_tokens", "cost_estimated", "cost_known", "duration_ms", "first_token_ms"}
        same |= {"outcome", "error_message"}
        return {name: getattr(self, name) for name in same} | {
            "id": uuid.UUID(self.id),
            "created_at": datetime.fromtimestamp(self.at_ms / 1000, UTC),
            "organization_id": _uuid(self.tenant),
            "cost_micro_usd": Decimal(self.nano_usd) / 1_000,
            "status": "error" if self.error_message else "ok",
        }


def row_of(booked: Mapping[str, Any], *, operation: str, task: str, tenant: str | None, job: str | None) -> Row:
    """The row of what was booked."""
    provider, _, model = booked["full"].partition("/")
    return Row(
        id=booked["row"],
        at_ms=booked.get("at_ms") or int(datetime.now(UTC).timestamp() * 1000),
        tenant=tenant,
        job_id=job,
        operation=operation,
        task=task,
        provider=provider,
        model=model,
        input_tokens=booked["input_tokens"],
        cached_input_tokens=booked.get("cached_tokens", 0),
        output_tokens=booked["output_tokens"],
        reasoning_tokens=booked.get("reasoning_tokens", 0),
        nano_usd=booked.get("nano", booked["micro"] * 1_000),
        cost_estimated=booked.get("estimated", False),
        cost_known=booked.get("known", True),
        duration_ms=booked["ms"],
        first_token_ms=booked.get("first_ms") or None,
        outcome=booked.get("outcome") or ("error" if booked["error"] else "ok"),
        error_message=booked["error"][:_ERROR_CHARACTERS] or None,
    )


def write_or_keep(database: Database, row: Row, kept: Budgets) -> bool:
    """Write a row, once for each id; where the database does not take it now, keep it for ``write_later``."""
    writer = writer_of(database)
    try:
        if writer.write(row.columns()):
            writer.aside(lambda: write_later(database, kept))
        return True
    except DatabaseUnavailable as fault:
        # The answer is paid for and recorded: a database that is away does not undo that.
        log.error("the row of an AI call of job %s is written later: %s", row.job_id, fault)
        kept.keep_unwritten(row.id, row.packed())
        return False


def write_later(database: Database, kept: Budgets) -> int:
    """Write what could not be written before; the number of rows."""
    from fourlane.db.ai_rows import write

    done = failed = 0
    for name, packed in list(kept.unwritten().items())[:_MOST_AT_ONCE]:
        try:
            write(database, msgspec.json.decode(packed, type=Row).columns())
        except DatabaseUnavailable as fault:
            failed += 1
            log.error("the row %s of an AI call is still not written: %s", name, fault)
            if failed == _MOST_FAILED:
                break
            continue
        kept.written(name)
        done += 1
    return done


def _uuid(text: str | None) -> uuid.UUID | None:
    try:
        return uuid.UUID(text) if text else None
    except ValueError:  # a tenant that is no organization
        return None
