"""Runs that failed, as a turn writes them: the record of their attempts, and what waiters and operators read."""

from __future__ import annotations

import logging
import time

import msgspec

from fourlane import job
from fourlane.options import result_ttl_ms
from fourlane.outcome import Dead, Retry
from fourlane.queues.records import read_record, write_record
from fourlane.queues.words import WORDS_CHARACTERS, text_of, trace_of, words_of, writable
from fourlane.reasons import ERROR
from fourlane.worker.run.decide import Verdict
from fourlane.worker.run.run import Run

__all__ = ["dead", "retry", "retry_as_enqueued", "undecided"]

log = logging.getLogger("fourlane.worker")


def retry(run: Run, delay_ms: int, error: BaseException, worker: str) -> Retry:
    """It runs again, one attempt later."""
    record = read_record(run.leased.record)
    record.attempts += 1
    return Retry(delay_ms, write_record(record, _attempt(error, worker)), words_of(error))


def retry_as_enqueued(run: Run, delay_ms: int, error: BaseException | None, worker: str) -> Retry:
    """Likewise, with the options of the message that a middleware enqueued."""
    assert run.enqueued_again is not None
    options = run.enqueued_again[0].options
    record = read_record(run.leased.record)
    record.attempts = int(options.get("retries", record.attempts + 1))
    record.options = {name: value for name, value in options.items() if name != "traceback"}
    failed = _attempt(error, worker) if error is not None else None
    return Retry(delay_ms, write_record(record, failed), words_of(error) if error else "")


def dead(run: Run, verdict: Verdict, error: BaseException, worker: str, *, least_ttl_ms: int = 0) -> Dead:
    """A dead letter, of which waiters are told for ``least_ttl_ms`` or as long as a result would have been kept."""
    ttl = max(least_ttl_ms, result_ttl_ms(run.envelope.options, run.plan.result_ttl_ms))
    if verdict.spent:
        record = read_record(run.leased.record)
        record.attempts += 1
        detail, written = words_of(error), write_record(record, _attempt(error, worker))
        told = detail
    else:
        detail, written = text_of(error), run.leased.record
        told = f"{verdict.reason}: {detail}"
    return Dead(verdict.reason, detail, written, _for_waiters(told) if ttl else b"", ttl)


def undecided(run: Run, error: BaseException | None, fault: BaseException, worker: str) -> Dead:
    """What raised while the end was judged: the job is over, and both errors are told. Made of what cannot fail."""
    own = f"{words_of(error)}; " if error is not None else ""
    detail = f"{own}while its end was judged: {words_of(fault)}"[: 2 * WORDS_CHARACTERS]
    log.error("undecided job=%s task=%s: %s", run.leased.entry, run.plan.name, detail, exc_info=fault)
    try:
        record = read_record(run.leased.record)
        record.attempts += 1
        if error is not None:
            record = msgspec.structs.replace(record, errors=[*record.errors, _attempt(error, worker)])
        written = write_record(record, _attempt(fault, worker))
    except BaseException as again:
        log.error("the record of job %s could not be written: %s", run.leased.entry, words_of(again))
        written = run.leased.record
    ttl = result_ttl_ms(run.envelope.options, run.plan.result_ttl_ms)
    return Dead(ERROR, detail, written, _for_waiters(detail) if ttl else b"", ttl)


def _attempt(error: BaseException, worker: str) -> job.Attempt:
    return job.Attempt(int(time.time() * 1000), words_of(error), trace_of(error), worker)


def _for_waiters(words: str) -> bytes:
    return msgspec.json.encode({"error": writable(words)})
