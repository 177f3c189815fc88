"""What is written in a row, whoever wrote it: a job, or a reason why it is none."""

from __future__ import annotations

import math
from collections.abc import Set
from datetime import UTC, datetime
from typing import Any, Final, cast
from uuid import UUID

import msgspec
from sqlalchemy import Float, Table, Text
from sqlalchemy import cast as as_type
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from fourlane import codec, job
from fourlane.db.models import JobOutbox
from fourlane.errors import InvalidOption, UnreadableJob
from fourlane.later import later_tasks
from fourlane.names import Tier, check_tenant
from fourlane.options import fault_of
from fourlane.queues import make
from fourlane.queues.lines import Line, read_lines, texts_of
from fourlane.queues.relayed import Relayed

__all__ = ["COLUMNS", "DAY_MS", "job_of", "moment_ms", "moment_of", "reason", "too_large"]

DAY_MS: Final = 86_400_000
_END_MS: Final = 253_402_214_400_000  # the last day of 9999 is the next year somewhere
_MOST_REASON: Final = 1_000


class moment_of(FunctionElement[Any]):
    """A moment as milliseconds since 1970, or as the text that SQLite keeps: what no driver's calendar must know."""

    type = Float()
    inherit_cache = True


@compiles(moment_of, "postgresql")
def _moment_postgresql(element: moment_of, compiler: Any, **given: Any) -> str:
    return f"(date_part('epoch', {compiler.process(element.clauses, **given)}) * 1000)"


@compiles(moment_of, "sqlite")
def _moment_sqlite(element: moment_of, compiler: Any, **given: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **given)} AS TEXT)"


_rows = cast("Table", JobOutbox.__table__)
COLUMNS: Final = [
    *(_rows.c[name] for name in ("position", "task", "service", "tier", "args", "kwargs", "options")),
    *(as_type(_rows.c[name], Text).label(name) for name in ("id", "organization_id")),
    *(moment_of(_rows.c[name]).label(name) for name in ("run_at", "created_at")),
]

_decode_args = msgspec.json.Decoder(list[Any]).decode
_decode_kwargs = msgspec.json.Decoder(dict[str, Any]).decode


def job_of(row: Any, encrypted: Set[str], *, last_ms: int, places: int = 0) -> Relayed:
    """The job that a row is.

    Parameters:
      encrypted: the tasks of its service whose jobs are.
      last_ms: the last moment from which it may run.
      places: how many jobs of one organization run at once, of those that name no lines; 0: any number.

    Raises FourlaneError, ValueError: it is no job, or cannot be encrypted.
    """
    task = _text(row.task, "task")
    if not task:
        raise ValueError("task: it has no name")
    created_ms = moment_ms(row.created_at, "created_at")
    due_ms = None if row.run_at is None else moment_ms(row.run_at, "run_at")
    if due_ms is not None and due_ms > last_ms:
        raise ValueError(f"run_at: {_shown(due_ms)} is further ahead than FOURLANE_OUTBOX_DAYS_AHEAD allows")
    tier = Tier.parse(row.tier)
    job_id = job.id_of_message(_uuid(row.id, "id"), tier)
    options = _options_of(row)
    lines = read_lines(options.pop(codec.LINES, []))
    if places and not lines and row.organization_id is not None:
        lines = [Line(f"t:{_uuid(row.organization_id, 'organization_id')}", places)]
    body = make.body_of_parts(
        task,
        _checked(row.args, "args", _decode_args),
        _checked(row.kwargs, "kwargs", _decode_kwargs),
        options,
        job_id=job_id,
        sealed=codec.SEALED not in options and not encrypted.isdisjoint((task, *later_tasks(options))),
        enqueued_ms=created_ms,
        lines=texts_of(lines),
    )
    return Relayed(job_id, job.entry_of(job_id, created_ms), due_ms, body)


def moment_ms(value: Any, what: str) -> int:
    """Of a moment as a database tells it; SQLite's texts are UTC. Raises ValueError."""
    found = math.nan
    if isinstance(value, float):
        found = value
    elif isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            found = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000
        except (ValueError, OverflowError):
            pass
    if not 0 <= found < _END_MS:
        raise ValueError(f"{what}: {value!r:.100} is no moment of the years 1970 to 9999")
    return round(found)


def too_large(size: int, max_bytes: int) -> str:
    """Why a row of this size is no job; never of one that a program wrote which kept to the limit."""
    return f"the job has {size:,} bytes, the limit is {max_bytes:,} (FOURLANE_MAX_BODY_BYTES)"


def reason(error: Exception) -> str:
    """An error as a row can keep it, and a person read it: what stands in it may be from the row."""
    text = str(getattr(error, "orig", None) or error) or type(error).__name__
    text = "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text[:_MOST_REASON])
    return text.encode("utf-8", "backslashreplace").decode()


def _options_of(row: Any) -> dict[str, Any]:
    """With the organization as tenant, where the row came from another program, which names it in its column only."""
    text = _text(row.options, "options").encode()
    options: dict[str, Any] = _decoded(text, "options", _decode_kwargs)
    if fault := fault_of(options):
        raise InvalidOption(fault)
    if row.organization_id is not None:
        return {"tenant": _uuid(row.organization_id, "organization_id")} | options
    return options | {"tenant": check_tenant(options["tenant"])} if "tenant" in options else options


def _checked(value: Any, what: str, decode: Any) -> bytes:
    """JSON as it is, which by itself is what it must be: the body is put together of it."""
    text = _text(value, what).encode()
    _decoded(text, what, decode)
    return text


def _decoded(text: bytes, what: str, decode: Any) -> Any:
    try:
        return decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableJob(f"{what} cannot be read: {error}") from None


def _text(value: Any, what: str) -> str:
    """SQLite keeps any kind of value in any column."""
    if not isinstance(value, str):
        raise ValueError(f"{what}: {value!r:.100} is no text")
    return value


def _uuid(value: Any, what: str) -> str:
    text = _text(value, what)
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError(f"{what}: {text!r:.100} is no UUID") from None


def _shown(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
