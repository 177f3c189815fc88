"""Every error that Fourlane raises, as one tree.

FourlaneError
├── SettingsError           a setting is wrong; names the variable, the fault and the fix
├── ModuleError             a module of tasks cannot be imported
├── InvalidName             an environment, service, tier or queue name is malformed (also a ValueError)
├── InvalidArguments        a job's arguments cannot be carried as JSON (also a TypeError)
├── InvalidOption           an option of a task or a job is of a wrong type or range (also a Type- and a ValueError)
├── InvalidTask             a function cannot be a task (also a TypeError)
├── JobTooLarge             a job's body is over the limit (also a ValueError)
├── InvalidSchedule         a schedule's rule, options or arguments are wrong (also a ValueError)
├── ScheduleNotFound        there is no schedule of that name
├── UnknownTask             no task of that name is declared
├── UnknownQueue            no job or worker of that queue's service was ever seen
├── JobNotFound             Redis knows no job of that id
├── DuplicateJob            another job already has that id
├── UnreadableJob           a stored body cannot be decoded
├── RedisUnavailable        Redis cannot be reached or refuses us
│   └── BrokerUnavailable   the same, out of dramatiq's API: its ConnectionClosed too (queues/dramatiq_errors.py)
├── ResultTimeout           no result arrived in time
├── ResultNotKept           the job's result is not kept, or no longer; says which option keeps it
├── UnreadableResult        what lies in the place of a job's result or progress is none (also a ValueError)
├── ResultRefused           the job is done, but its result could not be kept; says why
├── JobFailed               the job whose result was asked for ended otherwise than done
│   └── JobCancelled        it was cancelled
├── StepError               a step's name was used twice, or the steps of a job take too much
├── EmbeddedServerError     the embedded server cannot start or was lost
├── InvalidEvent            an event, or its envelope, is not what its type says (also a ValueError)
├── EventTooLarge           an event is over the limit and there is no bucket for it (also a ValueError)
├── EventsUnavailable       SQS or S3 cannot be reached or refuses us; says what to do
│   ├── EventsRefused       it refuses, and will again: rights, credentials, what the event holds
│   │   └── NoSuchEventQueue  the event's queue does not exist in this account and region
│   └── BufferFull          the publisher's local buffer is full
├── DatabaseUnavailable     the database cannot be reached or refuses us
├── StorageUnavailable      where files are kept cannot be reached, is full or refuses us; says what to do
├── InputUnavailable        what a job is to read could not be had this time
├── MigrationError          the database's schema is not what the migrations say
├── EncryptionError         something cannot be encrypted or decrypted; names the key that is missing
│   └── AlteredCiphertext   what was encrypted was changed, or was moved here from elsewhere
│       └── AlteredSteps    of a job's recorded steps: a dead letter at once (also a Reject)
└── Foreseen                says all in its text: a line in the log where a job ends by it, and no error report
    └── Steering            raised inside a task to choose what happens to its job
        ├── RateLimited     run again later, no attempt spent
        │   ├── ProviderLimited   a provider's limit has no room, or it asked for silence
        │   └── ProviderDown      a provider fails, its circuit breaker is open
        ├── Snooze          run again later, no attempt spent
        └── Reject          a dead letter at once, no retry
            └── NotStored   nothing is kept under this reference, or no longer (also a LookupError)

Cancelled                   raised inside a running task; a BaseException, as asyncio's
└── LeaseLost               its job is another worker's by now

A part has errors of its own beside these, each a FourlaneError too, such as `fourlane.webhooks.Refused`. What redis-py
and our own connections raise (queues/redis/failures.py) is the cause of a RedisUnavailable, never what a caller gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

__all__ = [
    "AlteredCiphertext",
    "AlteredSteps",
    "BufferFull",
    "Cancelled",
    "DatabaseUnavailable",
    "DuplicateJob",
    "EmbeddedServerError",
    "EncryptionError",
    "EventTooLarge",
    "EventsRefused",
    "EventsUnavailable",
    "Foreseen",
    "FourlaneError",
    "InputUnavailable",
    "InvalidArguments",
    "InvalidEvent",
    "InvalidName",
    "InvalidOption",
    "InvalidSchedule",
    "InvalidTask",
    "JobCancelled",
    "JobFailed",
    "JobNotFound",
    "JobTooLarge",
    "LeaseLost",
    "MigrationError",
    "ModuleError",
    "NoSuchEventQueue",
    "NotStored",
    "ProviderDown",
    "ProviderLimited",
    "RateLimited",
    "RedisUnavailable",
    "Reject",
    "ResultNotKept",
    "ResultRefused",
    "ResultTimeout",
    "ScheduleNotFound",
    "SettingsError",
    "Snooze",
    "Steering",
    "StepError",
    "StorageUnavailable",
    "UnknownQueue",
    "UnknownTask",
    "UnreadableJob",
    "UnreadableResult",
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


class InvalidOption(FourlaneError, TypeError, ValueError):
    """An option of a task or of a job is not what it must be."""


class InvalidTask(FourlaneError, TypeError):
    """A function cannot be a task as it is."""


class JobTooLarge(FourlaneError, ValueError):
    """A job's body is over the limit."""


class InvalidSchedule(FourlaneError, ValueError):
    """A schedule can not be as it is declared."""


class ScheduleNotFound(FourlaneError, LookupError):
    """There is no schedule of that name."""


class UnknownTask(FourlaneError, LookupError):
    """No task of that name is declared."""


class UnknownQueue(FourlaneError, LookupError):
    """No job or worker of that queue's service was ever seen."""


class JobNotFound(FourlaneError, LookupError):
    """Redis knows no job of that id."""


class DuplicateJob(FourlaneError, ValueError):
    """Another job already has that id.

    Attributes:
      ids: of several that were enqueued at once, those that are others' already.
    """

    def __init__(self, message: str, ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.ids = tuple(ids)


class UnreadableJob(FourlaneError, ValueError):
    """A stored body cannot be decoded."""


class RedisUnavailable(FourlaneError):
    """Redis cannot be reached, or it refuses what we ask."""


class ResultTimeout(FourlaneError, TimeoutError):
    """No result arrived in time."""


class ResultNotKept(FourlaneError, LookupError):
    """The job's result is not kept, or no longer."""


class UnreadableResult(FourlaneError, ValueError):
    """What lies where a job's result or progress is kept is none: somebody else wrote it."""


class ResultRefused(FourlaneError):
    """The job is done, but its result could not be kept: not JSON, too large, or it could not be encrypted.

    Not a JobFailed: the work is done, and who repeats what failed must not repeat it.
    """


class JobFailed(FourlaneError):
    """The job whose result was asked for ended otherwise than done: it is a dead letter, or was cancelled."""


class JobCancelled(JobFailed):
    """The job whose result was asked for was cancelled."""


class StepError(FourlaneError):
    """A step's name was used twice in a run, or the steps of a job take too much."""


class EmbeddedServerError(FourlaneError):
    """The embedded server cannot start, or it was lost."""


class InvalidEvent(FourlaneError, ValueError):
    """An event is not what its type says, or its envelope cannot be read."""


class EventTooLarge(FourlaneError, ValueError):
    """An event is over the size limit, and no bucket is set to offload it to."""


class EventsUnavailable(FourlaneError):
    """SQS or S3 cannot be reached, or refuses what we ask.

    Attributes:
      passing: whether the same call may succeed later.
      unsent: of many events that were to be published, the positions of those that were not accepted.
    """

    def __init__(self, message: str, *, passing: bool = False) -> None:
        self.passing = passing
        self.unsent: list[int] = []
        super().__init__(message)


class EventsRefused(EventsUnavailable):
    """SQS or S3 refuses what is asked, and would refuse it again: the same call does not help.

    Attributes:
      contents: whether it is for what this one event holds. Else all of its kind are refused, until somebody changes
        rights, credentials or the queue.
    """

    def __init__(self, message: str, *, passing: bool = False, contents: bool = False) -> None:
        super().__init__(message, passing=passing)
        self.contents = contents


class NoSuchEventQueue(EventsRefused):
    """The event's queue does not exist."""


class BufferFull(EventsUnavailable):
    """SQS takes no events, and the local buffer is full: this event was not accepted."""


class DatabaseUnavailable(FourlaneError):
    """The database cannot be reached, or it refuses what we ask."""


class StorageUnavailable(FourlaneError):
    """Where files are kept cannot be reached, is full, or refuses what we ask."""


class InputUnavailable(FourlaneError):
    """What a job is to read could not be had this time."""


class MigrationError(FourlaneError):
    """The database's schema is not what the migrations say, or cannot be made so."""


class EncryptionError(FourlaneError):
    """Something cannot be encrypted or decrypted."""


class AlteredCiphertext(EncryptionError):
    """What was encrypted was changed, or was moved here from elsewhere."""


class Foreseen(FourlaneError):
    """Base of the errors that are no fault of the program's: where a job ends by one, its text says all."""


class Steering(Foreseen):
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


class ProviderLimited(RateLimited):
    """A provider's limit has no room for this call, or it asked for silence.

    Parameters:
      provider: whose, e.g. ``openai/gpt-4o``.
      retry_after: seconds until there may be room.
    """

    def __init__(self, provider: str, retry_after: float) -> None:
        super().__init__(retry_after)
        self.provider = provider
        self.args = (f"{provider} is at its limit, run again in {self.delay_ms / 1000:g} s",)


class ProviderDown(RateLimited):
    """A provider fails, so its circuit breaker is open and the call was not made.

    Parameters:
      provider: which, e.g. ``openai/gpt-4o``.
      retry_after: seconds until a call may be let through.
    """

    def __init__(self, provider: str, retry_after: float) -> None:
        super().__init__(retry_after)
        self.provider = provider
        self.args = (f"{provider} is down, run again in {self.delay_ms / 1000:g} s",)


class Reject(Steering):
    """This job can never succeed: make it a dead letter now, without further retries."""


class NotStored(Reject, LookupError):
    """Nothing is kept under this reference: it was never put, or was deleted or pruned since."""


class AlteredSteps(Reject, AlteredCiphertext):
    """The recorded steps of an encrypted job were changed, or are another's: this job is a dead letter now."""


class Cancelled(BaseException):
    """Raised inside a running task whose job was cancelled.

    A BaseException, as asyncio.CancelledError is, so that ``except Exception`` does not swallow it.
    """


class LeaseLost(Cancelled):
    """Raised inside a running task whose lease was lost: another worker runs its job by now.

    The end of such a run does not count. Once the loss is known, the task is interrupted with it, and so are its
    steps, progress, output, log lines and sends.
    """


_LONGEST_SECONDS: Final = 315_360_000.0  # ten years


def _milliseconds(delay: float | timedelta) -> int:
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
    if not 0 <= seconds <= _LONGEST_SECONDS:
        raise ValueError(f"a delay must be from 0 to {_LONGEST_SECONDS:,.0f} seconds (ten years), not {delay!r}")
    return int(seconds * 1000)
