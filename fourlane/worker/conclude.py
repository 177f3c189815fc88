"""What the end of a run means for its job: the outcome that the next turn writes."""

from __future__ import annotations

import asyncio
import time
import traceback
from typing import Any, Final

from dramatiq.middleware import Shutdown

from fourlane import codec, job
from fourlane.errors import Cancelled, RateLimited, Snooze, Steering
from fourlane.outcome import Back, Cancel, Dead, Done, Outcome, Postpone, Result, Retry
from fourlane.queues.broker import RedisBroker, in_process, read_record, write_record
from fourlane.retry import Policy, judge
from fourlane.sealing import seal_result
from fourlane.worker.run import Run

__all__ = ["Conclusions", "Expired", "Skipped"]

_TRACEBACK_CHARACTERS: Final = 8_000
_DONE: Final = Done()


class Skipped(Exception):
    """A middleware chose to skip the message."""


class Expired(Exception):
    """The job is older than it may be."""


class Conclusions:
    """Judges the ends of runs for one worker."""

    def __init__(self, broker: RedisBroker, worker: str) -> None:
        self.broker = broker
        self.worker = worker

    def success(self, run: Run, result: Any) -> Outcome:
        """Raises InvalidArguments when the result is to be kept and JSON cannot carry it."""
        ttl = _result_ttl(run)
        if not ttl:
            return _DONE
        value = codec.encode_value(result, "result")
        if run.plan.encrypt:
            return Result(seal_result(run.plan.name, value), ttl)
        return Result(b'{"value":' + value + b"}", ttl)

    def of(self, run: Run, result: Any, error: BaseException | None) -> Outcome:
        """The outcome, after all that dramatiq's middleware has to say of it."""
        plan, options = run.plan, run.envelope.options
        in_process.message = run
        run._exception = error
        if isinstance(error, (Cancelled, Shutdown)):
            return self.failure(run, error)
        if isinstance(error, Expired):
            run.failed = True
            outcome: Outcome = Dead("expired", str(error), write_record(read_record(run.leased.record)))
            return self._nack(run, outcome)
        if isinstance(error, Skipped):
            self.broker.call_hooks(self.broker.hooks("after_skip_message", native=False), (run,), {})
            if run.failed:
                return self._nack(run, self._dead(run, error.__cause__ or error, "rejected"))
            return self._ack(run, _DONE)

        if not isinstance(error, (Snooze, RateLimited)):
            if plan.callbacks and (plan.has_callbacks or "on_success" in options or "on_failure" in options):
                self.broker.call_hooks(
                    [plan.callbacks.after_process_message], (run,), {"result": result, "exception": error}
                )
            if plan.pipelines and error is None and "pipe_target" in options:
                self.broker.call_hooks([plan.pipelines.after_process_message], (run,), {"result": result})
        if error is not None:
            outcome = self.failure(run, error)
            run.failed = isinstance(outcome, Dead)
        else:
            outcome = self.success(run, result)
        self.broker.call_hooks(plan.after, (run,), {"result": result, "exception": error})
        if run.enqueued_again is not None and isinstance(outcome, Done):
            outcome = self._retry_as_enqueued(run, error)
        if run.failed and not isinstance(outcome, Dead):
            outcome = self._dead(run, error or RuntimeError("a middleware rejected it"), "rejected")
        return self._nack(run, outcome) if isinstance(outcome, Dead) else self._ack(run, outcome)

    def _ack(self, run: Run, outcome: Outcome) -> Outcome:
        self.broker.call_hooks(self.broker.hooks("before_ack", native=False), (run,), {})
        self.broker.call_hooks(self.broker.hooks("after_ack", native=False), (run,), {})
        return outcome

    def _nack(self, run: Run, outcome: Outcome) -> Outcome:
        self.broker.call_hooks(self.broker.hooks("before_nack", native=False), (run,), {})
        self.broker.call_hooks(self.broker.hooks("after_nack", native=False), (run,), {})
        return outcome

    def failure(self, run: Run, error: BaseException) -> Outcome:
        """What an error means for the job."""
        if isinstance(error, (Cancelled, Shutdown, asyncio.CancelledError)) and run.context.cancel_token:
            return Back() if run.context.cancel_token.reason == "shutdown" else Cancel()
        plan = run.plan
        if plan.retries is not None and not plan.is_task and not isinstance(error, Steering):
            # dramatiq's own rules, in its own words: it marks the message failed or enqueues it again.
            run._exception = error
            try:
                raise error
            except BaseException:
                self.broker.call_hooks([plan.retries.after_process_message], (run,), {"exception": error})
            if run.failed:
                return self._dead(run, error, "error")
            if run.enqueued_again is not None:
                return self._retry_as_enqueued(run, error)
            return _DONE
        if plan.retries is None and not plan.is_task and not isinstance(error, Steering):
            return _DONE  # without Retries dramatiq marks failed messages done
        policy = plan.policy.with_options(run.envelope.options)
        verdict = judge(error, run.attempt, policy)
        if verdict.action == "postpone":
            return Postpone(verdict.delay_ms)
        if verdict.action == "dead":
            if not verdict.expected:
                self._tell_exhausted(run, policy)
            return self._dead(run, error, verdict.reason)
        record = read_record(run.leased.record)
        record.attempts += 1
        return Retry(verdict.delay_ms, write_record(record, self._attempt(error)), _words(error))

    def _tell_exhausted(self, run: Run, policy: Policy) -> None:
        """dramatiq's ``on_retry_exhausted``, which its Retries does for plain actors."""
        name = run.envelope.options.get("on_retry_exhausted") or run.plan.options.get("on_retry_exhausted")
        if name:
            told = {"retries": run.attempt - 1, "max_retries": policy.max_retries}
            self.broker.get_actor(name).send(run._message.asdict(), told)

    def _retry_as_enqueued(self, run: Run, error: BaseException | None) -> Retry:
        assert run.enqueued_again is not None
        message, delay_ms = run.enqueued_again
        record = read_record(run.leased.record)
        record.attempts = int(message.options.get("retries", record.attempts + 1))
        record.options = {k: v for k, v in message.options.items() if k != "traceback"}
        failed = self._attempt(error) if error is not None else None
        return Retry(delay_ms or 0, write_record(record, failed), _words(error) if error else "")

    def _dead(self, run: Run, error: BaseException, reason: str) -> Dead:
        record = read_record(run.leased.record)
        record.attempts += 1
        value, ttl = b"", _result_ttl(run)
        if ttl:
            value = codec.encode_value({"error": _words(error)}, "error")
        return Dead(reason, _words(error), write_record(record, self._attempt(error)), value, ttl or 0)

    def _attempt(self, error: BaseException) -> job.Attempt:
        text = "".join(traceback.format_exception(error))
        return job.Attempt(_now_ms(), _words(error), text[-_TRACEBACK_CHARACTERS:], self.worker)


def _result_ttl(run: Run) -> int:
    return int(run.envelope.options.get("result_ttl_ms", run.plan.result_ttl_ms) or 0)


def _words(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}"[:1000] if text else type(error).__name__


def _now_ms() -> int:
    return int(time.time() * 1000)
