"""Loads jobs: the body is read and the task's plan found. Without these it is refused (refuse.py)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import dramatiq

from fourlane import codec
from fourlane.errors import FourlaneError, UnreadableJob
from fourlane.queues.broker import RedisBroker
from fourlane.queues.turn import Leased
from fourlane.worker.run.gate import Gate
from fourlane.worker.run.plan import Plan
from fourlane.worker.run.refuse import Refusals
from fourlane.worker.run.run import Run

__all__ = ["Load"]

log = logging.getLogger("fourlane.worker")


class Load:
    """Knows the plans of all tasks of this process."""

    def __init__(
        self,
        broker: RedisBroker,
        refusals: Refusals,
        *,
        slots: int,
        concurrency: int,
        on_free: Callable[[Gate], None],
        prepare: Callable[[Plan], None],
    ) -> None:
        """
        Parameters:
          on_free: as a gate's.
          prepare: makes what runs the jobs of a plan that comes after the start. May raise.
        """
        self.plans: dict[str, Plan] = {}
        self.has_async = False
        self.has_plain = False
        self._broker = broker
        self._refusals = refusals
        self._slots = slots
        self._concurrency = concurrency
        self._on_free = on_free
        self._prepare = prepare

    def plan(self, actor: dramatiq.Actor[Any, Any]) -> Plan:
        plan = self.plans[actor.actor_name] = Plan(self._broker, actor)
        if plan.share < 1:
            most = self._concurrency if plan.is_coroutine and not plan.keeps_thread else self._slots
            plan.gate = Gate(max(1, int(plan.share * most)), self._on_free)
        if plan.is_async:
            self.has_async = True
        else:
            self.has_plain = True
        return plan

    def load(self, service: Any, jobs: Sequence[Leased], put: Callable[[Run], None]) -> list[Run]:
        """Make runs of jobs: those for threads are ``put`` at once, coroutines are returned. Others are refused."""
        coroutines: list[Run] = []
        plans, decode = self.plans, codec.decode
        for leased in jobs:
            try:
                envelope = decode(leased.body)
                plan = plans.get(envelope.task) or self._plan_late(envelope.task)
            except UnreadableJob as error:
                self._refusals.refuse_unreadable(service, leased, error)
                continue
            if plan is None:
                self._refusals.refuse_unknown(service, leased, envelope)
            elif plan.is_async:
                coroutines.append(Run(service, leased, envelope, plan))
            else:
                put(Run(service, leased, envelope, plan))
        return coroutines

    def _plan_late(self, name: str) -> Plan | None:
        """Of an actor that was declared since the start."""
        actor = self._broker.actors.get(name)
        if actor is None:
            return None
        try:
            plan = self.plan(actor)
            self._prepare(plan)
        except (FourlaneError, OSError, RuntimeError) as error:  # no descriptor is left, or no thread
            self.plans.pop(name, None)
            log.error("actor %r was declared since the start, and its jobs cannot run: %s", name, error)
            return None
        return plan

    def is_async(self, leased: Leased) -> bool:
        try:
            plan = self.plans.get(codec.decode(leased.body).task)
        except UnreadableJob:
            return False
        return plan is not None and plan.is_async
