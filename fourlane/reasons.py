"""Why a job is a dead letter, in the words that Redis, commands and metrics have."""

from __future__ import annotations

from typing import Final

__all__ = ["ERROR", "EXPIRED", "POISON", "REASONS", "REJECTED", "UNKNOWN_TASK"]

ERROR: Final = "error"
"""Its last attempt failed, or an error that the task does not retry (``throws``)."""
REJECTED: Final = "rejected"
"""It can never succeed: the task, a middleware or Redis refused it, or its body, its options or its result are bad."""
EXPIRED: Final = "expired"
"""It waited longer than its ``max_age``."""
UNKNOWN_TASK: Final = "unknown-task"
"""No worker knew its task for a day."""
POISON: Final = "poison"
"""Too many workers died while they ran it. Found by Redis (queues/lua/reclaim.lua), not by who runs it."""

REASONS: Final = (ERROR, REJECTED, EXPIRED, UNKNOWN_TASK, POISON)
