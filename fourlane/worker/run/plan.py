"""All that is known of a task before its jobs come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import dramatiq
from dramatiq.asyncio import async_to_sync
from dramatiq.middleware import AgeLimit, Middleware, Retries, ShutdownNotifications, TimeLimit
from dramatiq.results import Results

from fourlane.options import Encrypt, fault_of
from fourlane.queues.broker import RedisBroker
from fourlane.retry import Backoff, Policy
from fourlane.tasks.callables import is_async
from fourlane.tasks.task import Task
from fourlane.worker.run.gate import Gate
from fourlane.worker.run.middleware import in_order_of_after, is_told, keeps_thread

__all__ = ["JudgedBy", "NoPlan", "Plan"]

JudgedBy: TypeAlias = Literal["policy", "retries", "nobody"]
"""Whose an error is to judge: the task's policy, dramatiq's ``Retries`` for its actors, or nobody where that is not."""


class Plan:
    """All that does not change from one job of a task to the next."""

    def __init__(self, broker: RedisBroker, actor: dramatiq.Actor[Any, Any]) -> None:
        self.broker = broker
        self.actor = actor
        self.name = actor.actor_name
        options = actor.options
        self.options = options
        self.fault = "" if isinstance(actor, Task) else fault_of(options)
        if self.fault:  # each job of it is refused with that
            options = {name: value for name, value in options.items() if not fault_of({name: value})}
        self.fn = actor.original if isinstance(actor, Task) else _called(actor)
        self.is_task = isinstance(actor, Task)
        self.encrypt: Encrypt = actor.encrypt if isinstance(actor, Task) else False
        self.service = actor.service if isinstance(actor, Task) else broker.queue_of(actor.queue_name).service
        self.share = float(options.get("share") or 1.0)
        self.gate: Gate | None = None
        """Has a place for each of its jobs that this process may run at once, where that is limited. Set at boot."""
        self._plan_hearing()
        native = {type(m): m for m in broker.middleware}
        self._plan_limits(options, native)
        self._plan_end(options, native)
        # The bare path: nothing but the function itself.
        self.bare = not (self.hooked or self.has_callbacks or self.max_age_ms or self.fault or self.encrypt)
        self.plain = self.bare and not self.result_ttl_ms

    def _plan_hearing(self) -> None:
        broker = self.broker
        told = [m for m in broker.middleware if is_told(m)]
        self.told = bool(told)
        """Middleware is told of its jobs, in threads: that may block, and an event loop may not."""
        self.keeps_thread = any(keeps_thread(m) for m in told)
        """The thread in which middleware heard of a job's begin waits for its coroutine, and tells of the end."""
        self.is_coroutine = is_async(self.fn)
        self.is_async = self.is_coroutine and not self.told
        """Its jobs are made on the event loop, and take no slot."""
        self.before = broker.hooks("before_process_message", native=False)
        self.after = in_order_of_after(broker.middleware)
        self.hooked = bool(
            self.before
            or broker.hooks("after_process_message", native=False)
            or broker.hooks("before_ack", native=False)
            or broker.hooks("after_ack", native=False)
        )

    def _plan_limits(self, options: Mapping[str, Any], native: Mapping[type, Middleware]) -> None:
        defaults = self.broker.opened.defaults
        limit: Any = options.get("time_limit")
        if limit is None:
            if self.is_task:
                limit = defaults.timeout_ms
            else:
                time_limit = native.get(TimeLimit)
                limit = time_limit.time_limit if isinstance(time_limit, TimeLimit) else None
        self.timeout_ms: float | None = limit
        age = native.get(AgeLimit)
        self.max_age_ms = options.get("max_age", age.max_age if isinstance(age, AgeLimit) else None)
        self.hard_ms = options.get("hard_timeout_ms", defaults.hard_timeout_ms)
        shutdown = native.get(ShutdownNotifications)
        notifies = shutdown.notify_shutdown if isinstance(shutdown, ShutdownNotifications) else False
        self.notify_shutdown = bool(options.get("notify_shutdown", notifies))

    def _plan_end(self, options: Mapping[str, Any], native: Mapping[type, Middleware]) -> None:
        defaults = self.broker.opened.defaults
        self.result_ttl_ms = options.get("result_ttl_ms", defaults.result_ttl_ms if self.is_task else 0)
        self.discards = not self.is_task and Results not in native
        """Nobody keeps what it returns: dramatiq's actors are told."""
        self.has_callbacks = bool(options.get("on_success") or options.get("on_failure"))
        self.retries: Any = native.get(Retries)
        self.judged_by: JudgedBy = "policy" if self.is_task else "nobody" if self.retries is None else "retries"
        self.throws = options.get("throws") or ()
        policy = Policy(
            backoff=Backoff(min(defaults.min_backoff_ms, defaults.max_backoff_ms), defaults.max_backoff_ms),
            throws=self.throws if self.is_task else (),  # a plain actor's are dramatiq's to judge
        ).with_options(options)
        self.policy = replace(
            policy,
            max_retries=options.get("max_retries", defaults.max_retries),
            backoff=options.get("backoff") or policy.backoff,
            retry_when=options.get("retry_when"),
        )


class NoPlan:
    """In a Plan's place for a job that cannot be read, or whose task nobody here knows."""

    bare = plain = True
    is_async = is_coroutine = told = keeps_thread = False
    is_task = encrypt = False
    result_ttl_ms = 0
    name = ""
    notify_shutdown = False
    gate = None
    options: Mapping[str, Any] = MappingProxyType({})
    throws = ()
    policy = Policy()
    judged_by: JudgedBy = "policy"

    def __init__(self, broker: RedisBroker) -> None:
        self.broker = broker


async def _nothing() -> None: ...


_DRAMATIQ_SYNC: Final = async_to_sync(_nothing).__code__
_DRAMATIQ_CALL: Final = dramatiq.Actor.__call__


def _called(actor: dramatiq.Actor[Any, Any]) -> Any:
    """What dramatiq calls: the actor, where its class has its own way of that, else its function.

    Without dramatiq's wrapper of ``async def``, which is for the threads of its own worker.
    """
    if type(actor).__call__ is not _DRAMATIQ_CALL:
        return actor
    function: Any = actor.fn
    return function.__wrapped__ if getattr(function, "__code__", None) is _DRAMATIQ_SYNC else function
