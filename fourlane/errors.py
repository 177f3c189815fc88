"""Every error that Fourlane raises, as one tree.

FourlaneError
├── SettingsError           a setting is wrong; names the variable, the fault and the fix
├── ModuleError             a module of tasks cannot be imported
├── InvalidName             an environment, service, tier or queue name is malformed (also a ValueError)
├── InvalidArguments        a job's arguments cannot be carried as JSON (also a TypeError)
├── JobTooLarge             a job's body is over the limit (also a ValueError)
├── UnknownTask             no task of that name is declared
├── UnknownQueue            no job or worker of that queue's service was ever seen
├── JobNotFound             Redis knows no job of that id
├── DuplicateJob            another job already has that id
├── UnreadableJob           a stored body cannot be decoded
├── RedisUnavailable        Redis cannot be reached or refuses us (also dramatiq's ConnectionClosed)
├── ResultTimeout           no result arrived in time
├── JobFailed               the job whose result was asked for is a dead letter
├── EmbeddedServerError     the embedded server cannot start or was lost
├── DatabaseUnavailable     the database cannot be reached or refuses us
├── MigrationError          the database's schema is not what the migrations say
├── EncryptionError         something cannot be encrypted or decrypted; names the key that is missing
└── Steering                raised inside a task to choose what happens to its job
    ├── RateLimited         run again later, no attempt spent
    ├── Snooze              run again later, no attempt spent
    └── Reject              a dead letter at once, no retry
"""

from __future__ import annotations

from datetime import timedelta

import dramatiq.errors

__all__ = [
    "Cancelled",
    "DatabaseUnavailable",
    "DuplicateJob",
    "EmbeddedServerError",
    "EncryptionError",
    "FourlaneError",
    "InvalidArguments",
    "InvalidName",
    "JobFailed",
    "JobNotFound",
    "JobTooLarge",
    "MigrationError",
    "ModuleError",
    "RateLimited",
    "RedisUnavailable",
    "Reject",
    "ResultTimeout",
    "SettingsError",
    "Snooze",
    "Steering",
    "UnknownQueue",
    "UnknownTask",
    "UnreadableJob",
]


class FourlaneError(Exception):
    """Base of all errors of this package."""


class SettingsError(FourlaneError):
    """A setting is wrong."""


class ModuleError(FourlaneError):
    """A module of tasks cannot be imported."""


class InvalidName(FourlaneError, ValueError):
    """A name does not have the form that it needs."""


class InvalidArguments(FourlaneError, TypeError):
    """A job's arguments cannot be carried as JSON."""


class JobTooLarge(FourlaneError, ValueError):
    """A job's body is over the limit."""


class UnknownTask(FourlaneError, LookupError):
    """No task of that name is declared."""


class UnknownQueue(FourlaneError, LookupError):
    """No job or worker of that queue's service was ever seen."""


class JobNotFound(FourlaneError, LookupError):
    """Redis knows no job of that id."""


class DuplicateJob(FourlaneError, ValueError):
    """Another job already has that id."""


class UnreadableJob(FourlaneError, ValueError):
    """A stored body cannot be decoded."""


class RedisUnavailable(FourlaneError, dramatiq.errors.ConnectionClosed):
    """Redis cannot be reached, or it refuses what we ask."""

    def __init__(self, message: str) -> None:
        super().__init__(message)  # type: ignore[no-untyped-call]


class ResultTimeout(FourlaneError, TimeoutError):
    """No result arrived in time."""


class JobFailed(FourlaneError):
    """The job whose result was asked for is a dead letter."""


class EmbeddedServerError(FourlaneError):
    """The embedded server cannot start, or it was lost."""


class DatabaseUnavailable(FourlaneError):
    """The database cannot be reached, or it refuses what we ask."""


class MigrationError(FourlaneError):
    """The database's schema is not what the migrations say, or cannot be made so."""


class EncryptionError(FourlaneError):
    """Something cannot be encrypted or decrypted."""


class Steering(FourlaneError):
    """Base of the errors by which a task chooses what happens to its job."""


class Snooze(Steering):
    """Postpone this job; no attempt is spent.

    Parameters:
      delay: seconds, or a timedelta, until the job may run again.
    """

    def __init__(self, delay: float | timedelta) -> None:
        self.delay_ms = _milliseconds(delay)
        super().__init__(f"run again in {self.delay_ms / 1000:g} s")


class RateLimited(Steering):
    """What this job needs is over its rate; run it again later, no attempt is spent.

    Parameters:
      retry_after: seconds, or a timedelta, until the job may run again.
    """

    def __init__(self, retry_after: float | timedelta) -> None:
        self.delay_ms = _milliseconds(retry_after)
        super().__init__(f"rate limited, run again in {self.delay_ms / 1000:g} s")


class Reject(Steering):
    """This job can never succeed: make it a dead letter now, without further retries."""


class Cancelled(BaseException):
    """Raised inside a running task whose job was cancelled.

    A BaseException, as asyncio.CancelledError is, so that ``except Exception`` does not swallow it.
    """


def _milliseconds(delay: float | timedelta) -> int:
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"a delay must be 0 or more seconds, not {delay!r}")
    return int(seconds * 1000)
