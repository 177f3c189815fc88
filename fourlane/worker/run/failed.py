"""Runs that failed, as a turn writes them: the record of their attempts, and what waiters and operators read."""

from __future__ import annotations

import logging
import time

import msgspec

from fourlane import job
from fourlane.errors import EncryptionError
from fourlane.options import result_ttl_ms
from fourlane.outcome import Dead, Retry
from fourlane.queues.records import failed_again, retried_as, write_record
from fourlane.queues.words import WORDS_CHARACTERS, text_of, trace_of, words_of, writable
from fourlane.reasons import ERROR
from fourlane.telling import tell
from fourlane.worker.run.decide import Verdict
from fourlane.worker.run.run import Run

__all__ = ["dead", "retry", "retry_as_enqueued", "said", "undecided"]

log = logging.getLogger("fourlane.worker")


def retry(run: Run, delay_ms: int, error: BaseException, worker: str) -> Retry:
    """It runs again, one attempt later."""
    record = write_record(failed_again(run.leased.record), _attempt(run, error, worker))
    return Retry(delay_ms, record, words_of(error))


def retry_as_enqueued(run: Run, delay_ms: int, error: BaseException | None, worker: str) -> Retry:
    """Likewise, with the options of the message that a middleware enqueued."""
    assert run.enqueued_again is not None
    record = retried_as(run.leased.record, run.enqueued_again[0].options)
    failed = _attempt(run, error, worker) if error is not None else None
    return Retry(delay_ms, write_record(record, failed), said(run, error) if error else "")


def dead(run: Run, verdict: Verdict, error: BaseException, worker: str, *, least_ttl_ms: int = 0) -> Dead:
    """A dead letter, of which waiters are told for ``least_ttl_ms`` or as long as a result would have been kept."""
    ttl = max(least_ttl_ms, result_ttl_ms(run.envelope.options, run.plan.result_ttl_ms))
    if verdict.spent:
        detail = told = said(run, error)
        written = write_record(failed_again(run.leased.record), _attempt(run, error, worker))
    else:
        detail, written = text_of(error), run.leased.record
        told = f"{verdict.reason}: {detail}"
    return Dead(verdict.reason, detail, written, _for_waiters(told) if ttl else b"", ttl)


def undecided(run: Run, error: BaseException | None, fault: BaseException, worker: str) -> Dead:
    """What raised while the end was judged: the job is over, and both errors are told. Made of what cannot fail."""
    own = f"{said(run, error)}; " if error is not None else ""
    detail = f"{own}while its end was judged: {said(run, fault)}"[: 2 * WORDS_CHARACTERS]
    tell.undecided(run, detail, fault)
    try:
        record = failed_again(run.leased.record)
        if error is not None:
            record = msgspec.structs.replace(record, errors=[*record.errors, _attempt(run, error, worker)])
        written = write_record(record, _attempt(run, fault, worker))
    except BaseException as again:
        log.error("the record of job %s could not be written: %s", run.leased.entry, words_of(again))
        written = run.leased.record
    ttl = result_ttl_ms(run.envelope.options, run.plan.result_ttl_ms)
    return Dead(ERROR, detail, written, _for_waiters(detail) if ttl else b"", ttl)


def said(run: Run, error: BaseException) -> str:
    """An error as it is kept in Redis."""
    return words_of(error, unsaid=_is_unsaid(run, error))


def _is_unsaid(run: Run, error: BaseException) -> bool:
    """It may say the arguments of an encrypted job. Not so what says that those cannot be read."""
    return run.seal is not None and not isinstance(error, EncryptionError)


def _attempt(run: Run, error: BaseException, worker: str) -> job.Attempt:
    words, trace = said(run, error), trace_of(error, unsaid=_is_unsaid(run, error))
    return job.Attempt(int(time.time() * 1000), words, trace, worker)


def _for_waiters(words: str) -> bytes:
    return msgspec.json.encode({"error": writable(words)})
