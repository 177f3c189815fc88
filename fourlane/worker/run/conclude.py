"""What the end of a run means for its job: the outcome that the next turn writes.

Conclusions.of is the one place that turns a run, its result and its error into an outcome, and it always gives one:
whatever raises in it, a rule of the task, a hook, a result that cannot be kept, the job is over, with both errors.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final

import msgspec
from dramatiq.middleware import Callbacks, MiddlewareError, Pipelines, Shutdown, SkipMessage

from fourlane import codec, job
from fourlane.errors import (
    Cancelled,
    InvalidArguments,
    JobCancelled,
    JobFailed,
    JobTooLarge,
    LeaseLost,
    RedisUnavailable,
    Steering,
)
from fourlane.options import LONGEST_DELAY_MS, result_ttl_ms, without_end
from fourlane.outcome import WAITERS_MS, Back, Cancel, Dead, Done, Outcome, Postpone, Result, Retry
from fourlane.queues import ended
from fourlane.queues.broker import RedisBroker, in_process, taking_retry
from fourlane.queues.records import read_record, write_record
from fourlane.queues.redis import is_refusal, lacks_right
from fourlane.queues.results import Results
from fourlane.queues.words import WORDS_CHARACTERS as _WORDS_CHARACTERS
from fourlane.queues.words import text_of as _text
from fourlane.queues.words import trace_of as _trace
from fourlane.queues.words import words_of as _words
from fourlane.queues.words import writable as _writable
from fourlane.retry import is_expected, judge
from fourlane.sealing import seal_result
from fourlane.worker.run.run import Run

__all__ = ["Conclusions", "Expired", "Skipped"]

log = logging.getLogger("fourlane.worker")

_CALLED: Final = frozenset(("on_success", "pipe_target"))
_CALLED_AFTER_ERRORS: Final = frozenset(("on_failure", "on_retry_exhausted"))
_AGAIN_SECONDS: Final = 0.5
_DONE: Final = Done()
_OWN_AFTER: Final = (Callbacks, Pipelines)
_DISCARDED: Final = (
    "discarded job=%s task=%s: nobody keeps what it returns. Consider adding the Results middleware, or send it on."
)


class Skipped(Exception):
    """A middleware chose to skip the message."""


class Expired(Exception):
    """The job waited longer than it may."""


class Conclusions:
    """Judges the ends of runs for one worker."""

    def __init__(self, broker: RedisBroker, worker: str) -> None:
        self.broker = broker
        self.worker = worker
        self._closed = threading.Event()

    def close(self) -> None:
        """The worker ends: what Redis could not be told by now is not waited for."""
        self._closed.set()

    def asks_redis(self, run: Run, error: BaseException | None) -> bool:
        """Whether to judge this end may take as long as Redis is away. An event loop must not wait for that."""
        given, own = run.envelope.options, run.plan.options
        if not (_CALLED.isdisjoint(given) and _CALLED.isdisjoint(own)):
            return True
        if error is None:
            return False
        calls = not (_CALLED_AFTER_ERRORS.isdisjoint(given) and _CALLED_AFTER_ERRORS.isdisjoint(own))
        return calls or _was_told(run, error)

    def of(self, run: Run, result: Any, error: BaseException | None) -> Outcome:
        """The outcome of a run. Never raises."""
        try:
            if error is None and run.plan.bare and not run.failed:
                options = run.envelope.options
                if not options or _CALLED.isdisjoint(options):
                    outcome = self._success(run, result)
                    return outcome if type(outcome) is not Dead else self._over(run, outcome)
            return self._judged(run, result, error)
        except BaseException as fault:
            return Back() if run.abandoned else self._undecided(run, error, fault)
        finally:
            in_process.message = None

    def refused(self, run: Run, outcome: Dead) -> Outcome:
        """The end of a job that no function was called for: not to be read, or of a task that nobody knows."""
        error = run._exception = JobFailed(f"{outcome.reason}: {outcome.detail}")
        self._tell_what_can_be_told(run, error)
        ttl = max(WAITERS_MS, result_ttl_ms(run.envelope.options, 0))
        return Dead(outcome.reason, outcome.detail, outcome.record, _told(_writable(str(error))), ttl)

    # ---------------------------------------------------------------------------------------------------------

    def _undecided(self, run: Run, error: BaseException | None, fault: BaseException) -> Dead:
        """What raised while the end was judged: the job is over, and both errors are told. Made of what cannot fail."""
        own = f"{_words(error)}; " if error is not None else ""
        detail = f"{own}while its end was judged: {_words(fault)}"[: 2 * _WORDS_CHARACTERS]
        log.error("undecided job=%s task=%s: %s", run.leased.entry, run.plan.name, detail, exc_info=fault)
        try:
            record = read_record(run.leased.record)
            record.attempts += 1
            if error is not None:
                record = msgspec.structs.replace(record, errors=[*record.errors, self._attempt(error)])
            written = write_record(record, self._attempt(fault))
        except BaseException as again:
            log.error("the record of job %s could not be written: %s", run.leased.entry, _words(again))
            written = run.leased.record
        self._tell_what_can_be_told(run, error if error is not None else fault)
        ttl = result_ttl_ms(run.envelope.options, run.plan.result_ttl_ms)
        return Dead("error", detail, written, _told(detail) if ttl else b"", ttl)

    def _tell_what_can_be_told(self, run: Run, error: BaseException) -> None:
        run.failed, run._exception = True, error
        for tell in (self._tell_failure, self._tell_exhausted, self._nack_hooks):
            try:
                tell(run)
            except BaseException as fault:
                log.error("the end of job %s could not be told: %s", run.leased.entry, _words(fault))

    def _success(self, run: Run, result: Any) -> Outcome:
        """Done, and with its result when it is to be kept and can be."""
        options = run.envelope.options
        ttl = result_ttl_ms(options, run.plan.result_ttl_ms) if options else run.plan.result_ttl_ms
        if not ttl:
            if result is not None and run.plan.discards and "pipe_target" not in options:
                log.warning(_DISCARDED, run.id, run.plan.name)
            return _DONE
        try:
            return Result(self._carried(run, result), ttl)
        except BaseException as error:
            # The work is done: to repeat it would charge the card again.
            text = _words(error)
            log.error(
                "result-refused job=%s task=%s: it is done, its result is not kept: %s", run.id, run.plan.name, text
            )
            if (options.get("on_bad_result") or run.plan.options.get("on_bad_result")) == "dead":
                run._exception = error
                return self._dead(run, error, "rejected")
            return Result(msgspec.json.encode({"refused": text, "error": text}), ttl)

    def _carried(self, run: Run, result: Any) -> bytes:
        """Raises InvalidArguments, JobTooLarge, EncryptionError."""
        try:
            value = codec.encode_value(result, "result")
        except (TypeError, ValueError, RecursionError) as error:
            raise error if isinstance(error, InvalidArguments) else InvalidArguments(f"result: {error}") from None
        kept = seal_result(run.plan.name, value) if run.plan.encrypt else b'{"value":' + value + b"}"
        most = self.broker.opened.defaults.max_result_bytes
        if len(kept) > most:
            raise JobTooLarge(
                f"the result has {len(kept):,} bytes, the limit is {most:,} (FOURLANE_MAX_RESULT_BYTES); "
                "store the data elsewhere and return a reference to it"
            )
        return kept

    def _judged(self, run: Run, result: Any, error: BaseException | None) -> Outcome:
        """The outcome, after all that dramatiq's middleware has to say of it."""
        if run.lost or isinstance(error, LeaseLost):
            return Back()  # refused by Redis, for the job runs elsewhere
        in_process.message = run
        run._exception = error
        if _was_told(run, error):
            return Back() if run.context.cancel_token.reason == "shutdown" else self._cancelled(run)
        if isinstance(error, (Expired, Skipped)):
            return self._skipped(run, error)
        outcome = self._heard(run, result)
        if run.enqueued_again is not None and isinstance(outcome, Done):
            outcome = self._retry_as_enqueued(run, run._exception)
        if run.failed and not isinstance(outcome, Dead):
            run._exception = run._exception or RuntimeError("a middleware rejected it")
            outcome = self._dead(run, run._exception, "rejected")
        if isinstance(outcome, Dead):
            return self._over(run, outcome)
        if isinstance(outcome, (Retry, Done)) and run._exception is not None:
            try:
                self._tell_failure(run)
            except BaseException:  # it runs again: what its own end says is not decided here
                log.critical("on_failure of job %s could not be told", run.id, exc_info=True)
        return self._ack(run, outcome)

    def _skipped(self, run: Run, error: Expired | Skipped) -> Outcome:
        """No function was called, and middleware hears of that in place of the end."""
        if isinstance(error, Expired):
            # Callbacks hear it in our words; middleware, and whoever waits for its results, in dramatiq's.
            outcome = self._dead(run, error, "expired", spent=False)
            run.failed = True
            self._tell_failure(run)
            self._tell_exhausted(run)
            run._exception = SkipMessage("Message age limit exceeded")
            self._skip_hooks(run)
            return self._over(run, outcome)
        cause = error.__cause__ or error
        run._exception = cause if run.failed else None
        log.warning("skipped job=%s task=%s: %s", run.id, run.plan.name, _words(cause))
        self._skip_hooks(run)
        return self._over(run, self._dead(run, cause, "rejected")) if run.failed else self._ack(run, _DONE)

    def _skip_hooks(self, run: Run) -> None:
        self.broker.call_hooks(self.broker.hooks("after_skip_message", native=False), (run,), {})

    def _heard(self, run: Run, result: Any) -> Outcome:
        """The verdict, in the midst of all that middleware does after a message was processed (run.py)."""
        plan = run.plan
        outcome: Outcome = _DONE
        error = run._exception
        frames = error.__traceback__ if error is not None else None
        try:
            for m in plan.after:
                if m is None:
                    outcome = (
                        self._success(run, result) if run._exception is None else self._failure(run, run._exception)
                    )
                    run.failed = run.failed or isinstance(outcome, Dead)
                elif type(m) in _OWN_AFTER:
                    # What is not sent on is an error of this job, not one to be logged only: others wait for it.
                    if run._exception is None and not run.failed:
                        self._send_on(run, m, result)
                else:
                    takes_retry = run._exception is not None and plan.retries is None and not plan.is_task
                    with taking_retry(run) if takes_retry else nullcontext():
                        told = {"result": result, "exception": run._exception}
                        self.broker.call_hooks([m.after_process_message], (run,), told)
        except MiddlewareError as raised:  # dramatiq's meaning of it: the run failed
            run._exception = run._exception or raised
            outcome = self._failure(run, raised)
            run.failed = isinstance(outcome, Dead)
        finally:
            if error is not None:
                error.__traceback__ = frames  # which a middleware's context manager takes away
        return outcome

    def _send_on(self, run: Run, middleware: Any, result: Any) -> None:
        plan, options = run.plan, run.envelope.options
        calls = type(middleware) is Callbacks and (plan.has_callbacks or "on_success" in options)
        if calls or (type(middleware) is Pipelines and "pipe_target" in options):
            self._until_told(run, lambda: middleware.after_process_message(self.broker, run, result=result))

    def _until_told(self, run: Run, tell: Callable[[], object]) -> None:
        """Through an outage of Redis: work that is done is no dead letter for that. In a thread that may wait.

        What never began is refused by the loop itself, which may not.
        """
        while True:
            try:
                tell()
                return
            except RedisUnavailable as error:
                is_outage = not is_refusal(error) and not lacks_right(error)
                if not is_outage or not run.started or self._closed.wait(_AGAIN_SECONDS):
                    raise

    def _over(self, run: Run, outcome: Dead) -> Outcome:
        """It ended otherwise than done. What cannot be told is told with the job's own error."""
        run.failed = True
        self._tell_failure(run)
        self._tell_exhausted(run)
        self._nack_hooks(run)
        return outcome

    def _cancelled(self, run: Run) -> Outcome:
        error = JobCancelled("it was cancelled while it ran")
        self._tell_what_can_be_told(run, error)
        if result_ttl_ms(run.envelope.options, run.plan.result_ttl_ms):
            stored = job.id_of_entry(run.leased.entry)
            try:
                told = ended.for_waiters(str(error), cancelled=True)
                Results(self.broker.store).tell_end(run.service.name, stored, told)
            except RedisUnavailable as fault:
                log.warning("who waits for job %s is not told that it was cancelled: %s", run.id, fault)
        return Cancel()

    # Acks and nacks hear of what is decided, and change nothing of it.

    def _ack(self, run: Run, outcome: Outcome) -> Outcome:
        self._settling(run, "before_ack", "after_ack")
        return outcome

    def _nack_hooks(self, run: Run) -> None:
        self._settling(run, "before_nack", "after_nack")

    def _settling(self, run: Run, *signals: str) -> None:
        for signal in signals:
            for hook in self.broker.hooks(signal, native=False):
                try:
                    hook(self.broker, run)
                except BaseException:  # whatever it is, the job has ended as it has
                    self.broker.logger.critical("Unexpected failure in %r.", hook, exc_info=True)

    def _failure(self, run: Run, error: BaseException) -> Outcome:
        """What an error means for the job."""
        plan = run.plan
        run.expected = is_expected(error, plan.throws)
        if not plan.is_task and not isinstance(error, Steering):
            if plan.retries is None:
                return _DONE  # without Retries dramatiq marks failed messages done
            return self._as_dramatiq(run, plan.retries, error)
        policy = plan.policy if isinstance(error, Steering) else plan.policy.with_options(run.envelope.options)
        verdict = judge(error, run.attempt, policy)
        delay_ms = max(0, min(verdict.delay_ms, LONGEST_DELAY_MS))
        if verdict.action == "postpone":
            return Postpone(delay_ms)
        if verdict.action == "dead":
            return self._dead(run, error, verdict.reason)
        record = read_record(run.leased.record)
        record.attempts += 1
        return Retry(delay_ms, write_record(record, self._attempt(error)), _words(error))

    def _as_dramatiq(self, run: Run, retries: Any, error: BaseException) -> Outcome:
        """dramatiq's own rules, in its own words: it marks the message failed or enqueues it again."""
        run._exception = error
        run.told |= {"on_retry_exhausted"}
        frames = error.__traceback__
        try:
            raise error
        except BaseException:
            with taking_retry(run):
                retries.after_process_message(self.broker, run, exception=error)
        finally:
            error.__traceback__ = frames  # without these of the worker's, which hold the error
        if run.failed:
            return self._dead(run, error, "error")
        return self._retry_as_enqueued(run, error) if run.enqueued_again is not None else _DONE

    def _tell_failure(self, run: Run) -> None:
        """``on_failure`` hears of each failed run, and of each other end that is not done."""
        error = run._exception
        assert error is not None
        told = {"type": type(error).__name__, "message": _text(error)}
        self._send_once(run, "on_failure", told)

    def _tell_exhausted(self, run: Run) -> None:
        """``on_retry_exhausted`` hears of each end that is not done."""
        options = run.envelope.options
        most = without_end(options.get("max_retries", run.plan.policy.max_retries))
        self._send_once(run, "on_retry_exhausted", {"retries": run.attempt - 1, "max_retries": most})

    def _send_once(self, run: Run, option: str, told: dict[str, Any]) -> None:
        name = run.envelope.options.get(option) or run.plan.options.get(option)
        if isinstance(name, str) and name and option not in run.told:
            run.told |= {option}
            actor = self.broker.get_actor(name)
            self._until_told(run, lambda: actor.send(run._message.asdict(), told))

    def _retry_as_enqueued(self, run: Run, error: BaseException | None) -> Retry:
        assert run.enqueued_again is not None
        message, delay_ms = run.enqueued_again
        record = read_record(run.leased.record)
        record.attempts = int(message.options.get("retries", record.attempts + 1))
        record.options = {k: v for k, v in message.options.items() if k != "traceback"}
        failed = self._attempt(error) if error is not None else None
        delay_ms = max(0, min(int(delay_ms or 0), LONGEST_DELAY_MS))
        return Retry(delay_ms, write_record(record, failed), _words(error) if error else "")

    def _dead(self, run: Run, error: BaseException, reason: str, *, spent: bool = True) -> Dead:
        """A dead letter. ``spent``: the function ran, so that an attempt was spent."""
        record = read_record(run.leased.record)
        ttl = result_ttl_ms(run.envelope.options, run.plan.result_ttl_ms)
        if spent:
            record.attempts += 1
            words, written = _words(error), write_record(record, self._attempt(error))
        else:
            words, written = _text(error), write_record(record)
        return Dead(reason, words, written, _told(words if spent else f"{reason}: {words}") if ttl else b"", ttl)

    def _attempt(self, error: BaseException) -> job.Attempt:
        return job.Attempt(_now_ms(), _words(error), _trace(error), self.worker)


def _was_told(run: Run, error: BaseException | None) -> bool:
    """The error is the answer to a cancel or a stop."""
    return isinstance(error, (Cancelled, Shutdown, asyncio.CancelledError)) and bool(run.context.cancel_token)


def _told(words: str) -> bytes:
    """What who waits for a result gets of a job that ended otherwise."""
    return msgspec.json.encode({"error": words})


def _now_ms() -> int:
    return int(time.time() * 1000)
