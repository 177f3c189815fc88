"""Acts on what decide.py says of a run's end: whoever hears of it is told (hearers.py), and the outcome is made.

Conclusions.of always gives an outcome for the next turn to write: whatever raises in it, a rule of the task, a hook, a
result that cannot be kept, the job is over, with both errors.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final

from dramatiq.middleware import MiddlewareError

from fourlane.errors import JobCancelled, JobFailed, Steering
from fourlane.outcome import WAITERS_MS, Back, Cancel, Dead, Done, Outcome, Postpone
from fourlane.queues import carry
from fourlane.queues.broker import RedisBroker
from fourlane.queues.in_process import in_process, taking_retry
from fourlane.queues.words import words_of
from fourlane.retry import is_expected
from fourlane.telling import tell
from fourlane.worker.run import failed
from fourlane.worker.run.callbacks import SUCCESS_SENDERS, Sender, sends_after_errors, sends_after_success
from fourlane.worker.run.decide import (
    DONE,
    RESULT_REFUSED,
    UNDECIDED,
    End,
    Skipped,
    Verdict,
    after_middleware,
    after_retries,
    before_middleware,
    is_answer,
    judge,
    tells,
)
from fourlane.worker.run.hearers import Hearers
from fourlane.worker.run.result import BadResult, success
from fourlane.worker.run.run import Run

__all__ = ["Conclusions"]


_DONE: Final = Done()


class Conclusions:
    """Concludes the runs of one worker."""

    def __init__(self, broker: RedisBroker, worker: str) -> None:
        self.broker = broker
        self.worker = worker
        self._sender = Sender(broker)
        self._hearers = Hearers(broker, self._sender)

    def close(self) -> None:
        """The worker ends: what Redis could not be told by now is not waited for."""
        self._sender.close()

    def asks_redis(self, run: Run, error: BaseException | None) -> bool:
        """Whether to judge this end may take as long as Redis is away. An event loop must not wait for that."""
        given, own = run.envelope.options, run.plan.options
        if sends_after_success(given) or sends_after_success(own):
            return True
        if error is None:
            return False
        sends = sends_after_errors(given) or sends_after_errors(own)
        return sends or is_answer(error, run.told_to_end)

    def of(self, run: Run, result: Any, error: BaseException | None) -> Outcome:
        """The outcome of a run. Never raises."""
        try:
            options = run.envelope.options
            is_bare = run.plan.bare and run.seal is None and not run.failed
            if error is None and is_bare and not (options and sends_after_success(options)):
                try:
                    return success(run, result)
                except BadResult as bad:
                    run.error = _cause_of(bad)
                    return self._end(run, RESULT_REFUSED, run.error)
            in_process.message = run
            with carry.sealing(run.seal is not None):
                return self._told(run, result, error)
        except BaseException as fault:
            return Back() if run.abandoned else self._undecided(run, error, fault)
        finally:
            in_process.message = None

    def _told(self, run: Run, result: Any, error: BaseException | None) -> Outcome:
        run.error = error
        unheard = self._unheard(run, error) if error is not None or run.lost else None
        return self._end_heard(run, result) if unheard is None else self._end_unheard(run, unheard, error)

    def refused(self, run: Run, verdict: Verdict, words: str) -> Dead:
        """The end of a job that no function was called for: not to be read, or of a task that nobody knows."""
        error = JobFailed(words)
        outcome = failed.dead(run, verdict, error, self.worker, least_ttl_ms=WAITERS_MS)
        run.failed = True
        run.error = JobFailed(f"{verdict.reason}: {words}")
        self._hearers.tell_who_can(run, tells(verdict, run.error))
        return outcome

    # Facts and verdicts -------------------------------------------------------------------------------------

    def _unheard(self, run: Run, error: BaseException | None) -> Verdict | None:
        return before_middleware(End(error, told=run.told_to_end, lost=run.lost, failed=run.failed))

    def _judged(self, run: Run, error: BaseException) -> Verdict:
        """What an error means: by the task's policy, as the job's options change it, or by dramatiq's ``Retries``."""
        plan = run.plan
        run.expected = is_expected(error, plan.throws)
        steers = isinstance(error, Steering)
        if plan.judged_by == "retries" and not steers:
            self._ask_retries(run, error)
            return after_retries(failed=run.failed)
        policy = plan.policy if steers else plan.policy.with_options(run.envelope.options)
        return judge(End(error, run.attempt, policy, judged_by=plan.judged_by))

    def _ask_retries(self, run: Run, error: BaseException) -> None:
        """dramatiq's own rules, in its own words: it marks the message failed or enqueues it again."""
        run.error = error
        run.sent |= {"on_retry_exhausted"}
        frames = error.__traceback__
        try:
            raise error
        except BaseException:
            with taking_retry(run):
                run.plan.retries.after_process_message(self.broker, run, exception=error)
        finally:
            error.__traceback__ = frames  # without these of the worker's, which hold the error

    def _end_unheard(self, run: Run, verdict: Verdict, error: BaseException | None) -> Outcome:
        """Of an end that middleware is not asked about."""
        if isinstance(error, Skipped):
            error = _cause_of(error)
            tell.skipped(run, words_of(error))
            run.error = error if run.failed else None
        elif verdict.action == "cancel":
            run.error = JobCancelled("it was cancelled while it ran")
        return self._end(run, verdict, error)

    def _end_heard(self, run: Run, result: Any) -> Outcome:
        verdict, error, done = self._hear(run, result)
        verdict = after_middleware(verdict, failed=run.failed, enqueued_again=run.enqueued_again)
        if verdict.action == "dead":
            run.error = run.error or RuntimeError("a middleware rejected it")
        return self._end(run, verdict, error or run.error, done)

    def _hear(self, run: Run, result: Any) -> tuple[Verdict, BaseException | None, Outcome]:
        """The verdict, in the midst of all that middleware does after a message was processed (middleware.py)."""
        verdict = DONE
        done: Outcome = _DONE
        error = run.error
        frames = error.__traceback__ if error is not None else None
        cause: BaseException | None = None
        try:
            for m in run.plan.after:
                if type(m) in SUCCESS_SENDERS:
                    if run.error is None and not run.failed:
                        self._sender.send_success(run, m, result)
                elif m is not None:
                    self._tell_processed(run, m, result)
                elif (cause := run.error) is not None:
                    verdict = self._judged(run, cause)
                    run.failed = run.failed or verdict.action == "dead"
                else:
                    try:
                        done = success(run, result)
                    except BadResult as bad:
                        verdict, cause = RESULT_REFUSED, _cause_of(bad)
                        run.failed, run.error = True, cause
        except MiddlewareError as raised:  # dramatiq's meaning of it: the run failed
            run.error = run.error or raised
            verdict, cause = self._judged(run, raised), raised
            run.failed = verdict.action == "dead"
        finally:
            if error is not None:
                error.__traceback__ = frames  # which a middleware's context manager takes away
        return verdict, cause, done

    def _tell_processed(self, run: Run, middleware: Any, result: Any) -> None:
        takes_retry = run.error is not None and run.plan.judged_by == "nobody"
        with taking_retry(run) if takes_retry else nullcontext():
            told = {"result": result, "exception": run.error}
            self.broker.call_hooks([middleware.after_process_message], (run,), told)

    # The end ------------------------------------------------------------------------------------------------

    def _end(self, run: Run, verdict: Verdict, error: BaseException | None, done: Outcome = _DONE) -> Outcome:
        """Make the outcome (``done`` if it is done) and tell of it. A dead letter that cannot be told of says so."""
        outcome = self._outcome(run, verdict, error, done)
        run.failed = run.failed or verdict.action in ("dead", "cancel")
        told = tells(verdict, run.error)
        if verdict.action == "dead" or verdict.skipped:
            for one in told:
                self._hearers.tell(run, one)
        else:  # it stays so, whoever cannot be told
            self._hearers.tell_who_can(run, told)
        return outcome

    def _outcome(self, run: Run, verdict: Verdict, error: BaseException | None, done: Outcome) -> Outcome:
        match verdict.action:
            case "done":
                return done
            case "back":
                return Back()
            case "cancel":
                return Cancel()
            case "postpone":
                return Postpone(verdict.delay_ms)
            case "retry" if verdict.as_enqueued:
                return failed.retry_as_enqueued(run, verdict.delay_ms, error, self.worker)
        assert error is not None
        if verdict.action == "retry":
            return failed.retry(run, verdict.delay_ms, error, self.worker)
        return failed.dead(run, verdict, error, self.worker)

    def _undecided(self, run: Run, error: BaseException | None, fault: BaseException) -> Dead:
        outcome = failed.undecided(run, error, fault, self.worker)
        run.failed, run.error = True, error if error is not None else fault
        self._hearers.tell_who_can(run, tells(UNDECIDED, run.error))
        return outcome


def _cause_of(error: BaseException) -> BaseException:
    return error.__cause__ or error
