"""Fourlane: background jobs in four priority lanes on Redis."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fourlane.version import __version__

_HOMES = {
    "Backoff": "fourlane.retry",
    "Cancelled": "fourlane.errors",
    "EnqueuedJob": "fourlane.tasks.task",
    "FourlaneError": "fourlane.errors",
    "InvalidSchedule": "fourlane.errors",
    "JobFailed": "fourlane.errors",
    "ResultRefused": "fourlane.errors",
    "ResultNotKept": "fourlane.errors",
    "JobCancelled": "fourlane.errors",
    "RateLimited": "fourlane.errors",
    "RedisBroker": "fourlane.queues.broker",
    "Reject": "fourlane.errors",
    "ResultTimeout": "fourlane.errors",
    "Limit": "fourlane.queues.limit",
    "Snooze": "fourlane.errors",
    "State": "fourlane.job",
    "Task": "fourlane.tasks.task",
    "Tier": "fourlane.names",
    "cron": "fourlane.scheduler.declare",
    "current_job": "fourlane.tasks.context",
    "resume": "fourlane.tasks.steps",
    "step": "fourlane.tasks.steps",
    "every": "fourlane.scheduler.declare",
    "on_event": "fourlane.events.handlers",
    "task": "fourlane.tasks.task",
}
_PARTS = ("events",)  # packages that are reached by their name
__all__ = ["__version__", *_HOMES, *_PARTS]

if TYPE_CHECKING:
    from fourlane import events as events
    from fourlane.errors import Cancelled as Cancelled
    from fourlane.errors import FourlaneError as FourlaneError
    from fourlane.errors import InvalidSchedule as InvalidSchedule
    from fourlane.errors import JobCancelled as JobCancelled
    from fourlane.errors import JobFailed as JobFailed
    from fourlane.errors import RateLimited as RateLimited
    from fourlane.errors import Reject as Reject
    from fourlane.errors import ResultNotKept as ResultNotKept
    from fourlane.errors import ResultRefused as ResultRefused
    from fourlane.errors import ResultTimeout as ResultTimeout
    from fourlane.errors import Snooze as Snooze
    from fourlane.events.handlers import on_event as on_event
    from fourlane.job import State as State
    from fourlane.names import Tier as Tier
    from fourlane.queues.broker import RedisBroker as RedisBroker
    from fourlane.queues.limit import Limit as Limit
    from fourlane.retry import Backoff as Backoff
    from fourlane.scheduler.declare import cron as cron
    from fourlane.scheduler.declare import every as every
    from fourlane.tasks.context import current_job as current_job
    from fourlane.tasks.steps import resume as resume
    from fourlane.tasks.steps import step as step
    from fourlane.tasks.task import EnqueuedJob as EnqueuedJob
    from fourlane.tasks.task import Task as Task
    from fourlane.tasks.task import task as task


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"fourlane.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fourlane' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
