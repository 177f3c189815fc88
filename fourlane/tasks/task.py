"""@task: a function becomes a task, with its defaults. A dramatiq actor underneath."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, ParamSpec, TypeVar, overload

import dramatiq
import dramatiq.broker

from fourlane.names import Tier, check_service
from fourlane.options import Encrypt
from fourlane.queues import make
from fourlane.queues.broker import RedisBroker
from fourlane.queues.limit import Limit
from fourlane.retry import Backoff
from fourlane.tasks.callables import name_of
from fourlane.tasks.context import current_job
from fourlane.tasks.enqueued import EnqueuedJob
from fourlane.tasks.sending import Task

__all__ = ["Backoff", "EnqueuedJob", "Task", "current_job", "default_broker", "keep_beside", "task"]

P = ParamSpec("P")
R = TypeVar("R")


@overload
def task(fn: Callable[P, Awaitable[R]], /) -> Task[P, R]: ...
@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    service: str | None = None,
    tier: Tier | str | int = Tier.P1,
    max_retries: int | None = None,
    backoff: Backoff | None = None,
    retry_when: Callable[[int, BaseException], bool] | None = None,
    throws: type[BaseException] | Iterable[type[BaseException]] = (),
    timeout_ms: int | None = None,
    hard_timeout_ms: int | None = None,
    max_age_ms: int | None = None,
    result_ttl_ms: int | None = None,
    on_bad_result: Literal["done", "dead"] | None = None,
    limit: Limit | None = None,
    share: float | None = None,
    check: Callable[..., None] | None = None,
    lines: make.Lines | None = None,
    encrypt: Encrypt = False,
    broker: dramatiq.Broker | None = None,
    **options: Any,
) -> Callable[[Callable[P, Any]], Task[P, Any]]: ...
def task(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    service: str | None = None,
    tier: Tier | str | int = Tier.P1,
    max_retries: int | None = None,
    backoff: Backoff | None = None,
    retry_when: Callable[[int, BaseException], bool] | None = None,
    throws: type[BaseException] | Iterable[type[BaseException]] = (),
    timeout_ms: int | None = None,
    hard_timeout_ms: int | None = None,
    max_age_ms: int | None = None,
    result_ttl_ms: int | None = None,
    on_bad_result: Literal["done", "dead"] | None = None,
    limit: Limit | None = None,
    share: float | None = None,
    check: Callable[..., None] | None = None,
    lines: make.Lines | None = None,
    encrypt: Encrypt = False,
    broker: dramatiq.Broker | None = None,
    **options: Any,
) -> Any:
    """Make a function a task.

    Parameters:
      name: the task's name in Redis; the function's own by default.
      service: who owns it; the setting FOURLANE_SERVICE by default.
      tier: ``P0``…``P3``, or ``high``, ``normal``, ``low``, ``scheduled``.
      max_retries: attempts after the first; 5 by default.
      backoff: how long to wait between attempts.
      retry_when: ``(retries so far, error) -> bool``, in place of ``max_retries``.
      throws: errors that are expected and never retried.
      timeout_ms: the run is interrupted after this many milliseconds; 10 minutes by default.
      hard_timeout_ms: the worker's process is killed, and a crash counted, after this many.
      max_age_ms: a job that was ready and waited longer than this is a dead letter (``expired``). By Redis's clock;
        a delay, a backoff and the time before a replay do not count.
      result_ttl_ms: how long a result is kept, up to ten years; 0, not at all, by default.
      on_bad_result: what becomes of a job whose result cannot be kept (not JSON, too large, not to be encrypted):
        ``done``, and who waits for it gets ResultRefused; or ``dead``, a dead letter (``rejected``). It is never
        run again for that.
      limit: how many jobs of the task's queue may start in a time, and run at once; all tasks of the queue share
        it. What settings say comes before it, and what an operator sets at run time before both.
      share: the part of a worker process's slots, or of its places for ``async def``, that jobs of this task may
        hold at once, such as 0.5; one at least. A job over it leaves its slot to others, and comes again after
        0.2 to 30 s, by how long such jobs run.
      check: called with a job's arguments at each enqueue; its error refuses the job. Binding is left to it.
      lines: ``(args, kwargs, options) -> lines``: of each job, the lines that it waits in (queues/lines.py). Jobs of
        schedules and of events' handlers wait in none.
      encrypt: keep arguments, and all that a job leaves in Redis, encrypted, with FOURLANE_ENCRYPTION_KEYS; a job
        whose arguments are not encrypted is refused, but with ``"accept-plain"`` (docs/tasks.md).
      broker: the broker; by default the one that settings describe, or a global ``StubBroker``. One of dramatiq's
        ``StubBroker``, for unit tests, gets a job as its message, under dramatiq's rules of a retry.
      **options: those of dramatiq's middleware.

    Raises:
      InvalidName: of the tier or service.
      SettingsError: of the limit.
      InvalidOption: an option of a wrong type or range.
      InvalidTask: the function is a generator, or has no name.
      ValueError: a task of this name is declared already, or an option is not known.
    """
    if service is not None:
        check_service(service)
    if limit is not None:
        limit.check()
    parsed = Tier.parse(tier)
    given: dict[str, Any] = {
        "max_retries": max_retries,
        "backoff": backoff,
        "retry_when": retry_when,
        "throws": throws or None,
        "time_limit": timeout_ms,
        "hard_timeout_ms": hard_timeout_ms,
        "max_age": max_age_ms,
        "result_ttl_ms": result_ttl_ms,
        "share": share,
        "on_bad_result": on_bad_result,
    }
    kept = {key: value for key, value in given.items() if value is not None} | options

    def declare(function: Callable[..., Any]) -> Task[Any, Any]:
        target = broker or _broker_of_tasks()
        unknown = set(options) - target.actor_options
        if unknown:
            raise ValueError(f"unknown option(s) {', '.join(sorted(unknown))}: is a middleware missing?")
        return Task(
            function,
            broker=target,
            name=name or name_of(function),
            service=service,
            tier=parsed,
            limit=limit,
            check=check,
            lines=lines,
            encrypt=encrypt,
            options=kept,
        )

    return declare if fn is None else declare(fn)


_beside: RedisBroker | None = None


def _broker_of_tasks() -> dramatiq.Broker:
    """Where tasks are declared that name no broker: in unit tests on the program's StubBroker."""
    from dramatiq.brokers.stub import StubBroker

    broker = dramatiq.broker.global_broker
    return broker if isinstance(broker, StubBroker) else default_broker()


def keep_beside(broker: RedisBroker) -> None:
    """Let this be the default broker of a program that sets one which is not ours."""
    global _beside
    _beside = broker


def default_broker() -> RedisBroker:
    """dramatiq's global broker when it is ours; else one that reads the settings when it is first used.

    That becomes the global one when there is none, and stays beside one that the program has set.
    """
    broker = dramatiq.broker.global_broker
    if isinstance(broker, RedisBroker):
        return broker
    if broker is not None and _beside is not None:
        return _beside

    made = RedisBroker()
    if broker is None:
        dramatiq.set_broker(made)
    else:
        keep_beside(made)
    return made
