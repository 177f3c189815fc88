"""Why a job is a dead letter, in the words that Redis, commands and metrics have. worker/run/decide.py chooses."""

from __future__ import annotations

from typing import Final

__all__ = ["ERROR", "EXPIRED", "POISON", "REASONS", "REJECTED", "UNKNOWN_TASK"]

ERROR: Final = "error"
REJECTED: Final = "rejected"
EXPIRED: Final = "expired"
UNKNOWN_TASK: Final = "unknown-task"
POISON: Final = "poison"

REASONS: Final = {
    ERROR: "its last attempt failed, or in a way that its task does not retry",
    REJECTED: "it can never succeed: its task, a middleware or Redis refused it, or its body or its result are bad",
    EXPIRED: "it was ready and waited longer than it may (max_age)",
    UNKNOWN_TASK: "no worker knew its task for a day",
    POISON: "too many workers died with it (queues/lua/reclaim.lua)",
}
