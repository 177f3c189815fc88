"""What jobs returned, or how else they ended: kept for who waits for it, as a list of one element."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from fourlane.errors import (
    AlteredCiphertext,
    JobCancelled,
    JobFailed,
    RedisUnavailable,
    ResultRefused,
    UnreadableResult,
)
from fourlane.outcome import WAITERS_MS
from fourlane.queues.redis import blocks_for, is_full
from fourlane.queues.store import Store

__all__ = ["Results", "value_of"]

_POLL_SECONDS: Final = 0.1


class _Kept(msgspec.Struct):
    """One of these, but for what is said beside."""

    value: Any = msgspec.UNSET
    sealed: str | None = None
    refused: str | None = None
    error: str | None = None
    cancelled: bool = False
    task: str | None = None


_read = msgspec.json.Decoder(_Kept).decode


def value_of(job_id: str, data: bytes, *, is_sealed: bool = False) -> Any:
    """The result that is kept so.

    Parameters:
      job_id: as it is stored.
      is_sealed: the job is known to be encrypted: that it is done, and with what, is not believed in plain. That it
        failed is, for scripts write that too.

    Raises:
      JobFailed, ResultRefused
      EncryptionError: its key is missing; or it is not what the job left (AlteredCiphertext).
      UnreadableResult: nor does any job leave that.
    """
    try:
        kept = _read(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableResult(f"what is kept in the place of job {job_id}'s result cannot be read: {error}") from None
    if kept.error is not None and kept.refused is None:
        raise JobCancelled(kept.error) if kept.cancelled else JobFailed(kept.error)
    if kept.sealed is None and is_sealed:
        raise AlteredCiphertext(f"the result of job {job_id} is not encrypted, and must be: somebody else wrote it")
    if kept.refused is not None:
        raise ResultRefused(f"the job is done, but its result is not kept: {_refusal(job_id, kept)}")
    if kept.sealed is not None:
        from fourlane.sealing import open_result

        return open_result(job_id, kept.sealed, task=None if is_sealed else kept.task)
    if kept.value is msgspec.UNSET:
        raise UnreadableResult(f"what is kept in the place of job {job_id}'s result is none")
    return kept.value


def _refusal(job_id: str, kept: _Kept) -> str:
    if kept.sealed is None:
        return kept.refused or ""
    from fourlane.sealing import Seal

    return Seal(job_id).open_text("refusal", kept.sealed).decode()


class Results:
    """The results of one environment's jobs. Ids of jobs are as they are stored."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def wait(self, service: str, job_id: str, seconds: float) -> bytes | None:
        """A job's result; None when there was none in this time. At most some seconds: a socket has a timeout."""
        if seconds <= 0:
            return self.look(service, job_id)
        key = self._store.service(service).result(job_id)
        try:
            # Moving the only element of a list onto the same list leaves it for others who wait.
            data = self._store.connector.command(key, "BLMOVE", key, key, "LEFT", "LEFT", blocks_for(seconds))
        except RedisUnavailable as error:
            if not is_full(error):
                raise
            time.sleep(min(seconds, _POLL_SECONDS))
            return self.look(service, job_id)
        return data if isinstance(data, bytes) else None

    def look(self, service: str, job_id: str) -> bytes | None:
        """A job's result, if it is there now."""
        key = self._store.service(service).result(job_id)
        data = self._store.connector.command(key, "LINDEX", key, 0)
        return data if isinstance(data, bytes) else None

    def how_ended(self, service: str, job_id: str) -> tuple[str, str]:
        """How a job ended that brought no result so far (how_ended.lua), and of a dead letter its reason."""
        keys = self._store.service(service)
        touched = (keys.jobs, keys.reasons, keys.result(job_id), keys.cancelled(job_id))
        end, *reason = self._store.connector.run("how_ended", touched, (job_id,))
        return end.decode(), reason[0].decode("utf-8", "replace") if reason else ""

    def tell_end(self, service: str, job_id: str, value: bytes) -> None:
        """Tell who waits right now of an end without a result (ended.py: for_waiters). Who is not told, finds it by
        the job's state some seconds later.

        Raises RedisUnavailable.
        """
        key = self._store.service(service).result(job_id)
        self._store.connector.run("tell_end", (key,), (value, WAITERS_MS))
