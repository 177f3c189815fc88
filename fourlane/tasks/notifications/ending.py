"""What the end of a call to a provider means for the records of what it was to send, and for the job."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from fourlane.errors import (
    EncryptionError,
    FourlaneError,
    InputUnavailable,
    RateLimited,
    Reject,
    SettingsError,
    StorageUnavailable,
)
from fourlane.tasks.notifications.notification import InvalidNotification
from fourlane.tasks.task import current_job
from fourlane.tasks.webhooks.judging import judge

if TYPE_CHECKING:
    from fourlane.providers.messages import NotTaken
    from fourlane.tasks.notifications.ledger import Ledger

__all__ = ["MAX_RETRIES", "OUR_FAULT", "SendFailed", "check_age", "recorded"]

MAX_RETRIES: Final = 5
OUR_FAULT: Final = (InvalidNotification, SettingsError, EncryptionError)
# Resend forgets a key after 24 hours; whoever may have taken a message longer ago is not asked again.
_KEY_LIFE: Final = timedelta(hours=12)


class SendFailed(FourlaneError):
    """The provider did not take it this time; the job is tried again."""


def check_age(tried_at: datetime | None, now: datetime) -> None:
    """Raises Reject when an earlier call whose end nobody saw was made so long ago that none can be made again. The
    record stays as it is, so that no replay forgets how long ago that was."""
    if tried_at is not None and now - tried_at > _KEY_LIFE:
        raise Reject(f"whether it was sent at {tried_at:%Y-%m-%d %H:%M} UTC is not known")


@contextmanager
def recorded(ledger: Ledger, record_ids: Sequence[uuid.UUID], *, is_open: bool) -> Iterator[None]:
    """Around a call: records how it ended when it sent nothing, or nobody knows what, and says what the job does then.

    Parameters:
      is_open: whether the end of an earlier call for them is not known. That stays open, whatever becomes of this one.
    """
    from fourlane.providers.messages import Impossible, NotTaken, Unclear

    def not_sent(status: Literal["pending", "failed"], error: BaseException) -> None:
        if not is_open:
            ledger.not_sent(record_ids, status=status, error=str(error))

    try:
        yield
    except (*OUR_FAULT, Impossible) as error:
        not_sent("failed", error)
        raise Reject(str(error)) from None
    except (InputUnavailable, StorageUnavailable) as error:
        not_sent("pending", error)
        raise
    except RateLimited as error:  # nobody was called, or the provider said that it is too much
        not_sent("pending", error.__cause__ or error)
        raise
    except NotTaken as error:
        later = _retry_after(error)
        given_up = later is None and _is_last_attempt()
        not_sent("failed" if given_up else "pending", error)
        raise (SendFailed(str(error)) if later is None else RateLimited(later)) from None
    except Unclear as error:
        ledger.not_sent(record_ids, status="sending", error=str(error))
        raise SendFailed(f"{error}; whether it was sent is not known") from None


def _retry_after(error: NotTaken) -> float | None:
    """The seconds that the provider asked for."""
    if error.response is None:
        return None
    after_ms = judge(error.response, now_seconds=time.time()).after_ms
    return None if after_ms is None else after_ms / 1000


def _is_last_attempt() -> bool:
    job = current_job()
    return job is not None and job.attempt > MAX_RETRIES
