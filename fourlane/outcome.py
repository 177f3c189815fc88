"""The closed set of ways in which a run ends. Made by the worker, written by one turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

__all__ = ["PLAIN", "WAITERS_MS", "Back", "Cancel", "Dead", "Done", "Outcome", "Postpone", "Result", "Retry", "Stepped"]

WAITERS_MS: Final = 60_000
"""How long an end that keeps no result is told to who waits for one right now; who comes later asks for its state."""


@dataclass(frozen=True, slots=True)
class Done:
    """It succeeded and nothing of it is kept."""


PLAIN: Final = Done()
"""The end of most jobs: one without options that succeeded. Known by identity, so that a look is enough."""


@dataclass(frozen=True, slots=True)
class Result:
    """It succeeded and its value is kept for a while."""

    value: bytes
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class Retry:
    """It failed and runs again: an attempt was spent."""

    delay_ms: int
    record: bytes
    error: str


@dataclass(frozen=True, slots=True)
class Postpone:
    """It may not run now (limited, snoozed, task not known here): no attempt was spent."""

    delay_ms: int
    record: bytes = b""
    unknown_task: str = ""


@dataclass(frozen=True, slots=True)
class Back:
    """It goes back to the front of its queue (a deploy, or no slot for it here): no attempt was spent."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """It was cancelled while it ran."""


@dataclass(frozen=True, slots=True)
class Dead:
    """It will not run again by itself."""

    reason: str
    """One of reasons.py's `REASONS`."""
    detail: str
    record: bytes
    value: bytes = b""
    ttl_ms: int = 0


@dataclass(frozen=True, slots=True)
class Stepped:
    """It ended so, and has recorded steps: they go with the job when it goes."""

    outcome: Outcome


Outcome: TypeAlias = Done | Result | Retry | Postpone | Back | Cancel | Dead | Stepped
