"""Tells Redis what a worker process's modules declare: when it begins, and again when Redis lost it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

import dramatiq

from fourlane.errors import FourlaneError, RedisUnavailable, SettingsError
from fourlane.names import Queue, Tier
from fourlane.queues import control
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.task import Task, default_broker

__all__ = ["Declarations", "declare_limits", "declared_queues", "declared_tasks"]

log = logging.getLogger("fourlane.worker")

_AGAIN_SECONDS: Final = 2.0


def declared_queues(broker: RedisBroker, queues: list[str], services: list[str]) -> list[Queue]:
    """The queues to serve: those named, else all four tiers of each service that has a task."""
    if queues:
        return [broker.queue_of(name) for name in queues]
    found = set(services) or {_service_of(broker, actor) for actor in broker.actors.values()}
    return [Queue(service, tier) for service in sorted(found) for tier in Tier]


def declared_tasks(broker: RedisBroker) -> list[tuple[str, str, str]]:
    """Of each its name, the word of its tier, and its service."""
    named = [(actor.actor_name, broker.queue_of(actor.queue_name)) for actor in broker.actors.values()]
    return [(name, queue.tier.word, queue.service) for name, queue in named]


def _service_of(broker: RedisBroker, actor: dramatiq.Actor[Any, Any]) -> str:
    return actor.service if isinstance(actor, Task) else broker.queue_of(actor.queue_name).service


def declare_limits() -> None:
    """Write the limits that tasks declare for their queues, and drop those that they no longer do.

    And which tasks are encrypted.
    """
    from fourlane.queues.encrypted_tasks import declare_encrypted

    broker = default_broker()
    store = broker.store
    declared: dict[str, Any] = {}
    by: dict[str, str] = {}
    tasks = [actor for actor in broker.actors.values() if isinstance(actor, Task)]
    for task in tasks:
        queue = task.queue_name
        if task.limit is not None and declared.setdefault(queue, task.limit) != task.limit:
            raise SettingsError(f"tasks {by[queue]} and {task.actor_name} declare different limits for {queue}")
        if task.limit is not None:
            by[queue] = task.actor_name
    services = {task.service for task in tasks}
    control.declare_limits(store, declared, "task", services=services)
    for service in services:
        declare_encrypted(store, service, {t.actor_name: bool(t.encrypt) for t in tasks if t.service == service})


class Declarations:
    """Carries out orders to declare, one after the other, in a thread: jobs need not wait for that.

    The limits of the first order were written before: no job may start without them.
    """

    def __init__(
        self,
        broker: RedisBroker,
        boot_ms: int,
        order: int,
        serves: Callable[[], bool],
        promote: Callable[[str, list[str]], None],
    ) -> None:
        """``promote`` is told once of tasks of a service that other workers did not know."""
        self.done = -1
        """The last order that was carried out."""
        self._broker = broker
        self._boot_ms = boot_ms
        self._serves = serves
        self._promote = promote
        self._orders: SimpleQueue[int] = SimpleQueue()
        threading.Thread(target=self._run, args=(order,), name="fourlane-declare", daemon=True).start()

    def order(self, number: int) -> None:
        """Declare all again, unless an order of this number was carried out."""
        self._orders.put(number)

    def _run(self, first: int) -> None:
        from fourlane.scheduler.declare import synchronise

        self._insist(lambda: synchronise(self._broker, self._boot_ms), "schedules are not declared")
        self.done = first
        while not self._serves():
            time.sleep(0.02)
        self._insist(self._tell_unknown, "jobs that no worker knew wait on")
        while True:
            number = self._orders.get()
            if number > self.done:
                self._broker.store.forget_announced()
                self._insist(declare_limits, "limits are not declared")
                self._insist(lambda: synchronise(self._broker, self._boot_ms), "schedules are not declared")
                self.done = number

    def _tell_unknown(self) -> None:
        """Jobs that other workers did not know and we do need not wait any longer."""
        from fourlane.worker.run.unknown import unknown_tasks

        tasks: dict[str, set[str]] = {}
        for name, actor in self._broker.actors.items():
            tasks.setdefault(_service_of(self._broker, actor), set()).add(name)
        for service, names in tasks.items():
            if found := unknown_tasks(self._broker.store, service, names):
                self._promote(service, found)

    def _insist(self, act: Callable[[], None], what: str) -> None:
        """Until it is done, or cannot be."""
        while True:
            try:
                return act()
            except RedisUnavailable as error:
                log.warning("%s: %s; trying again", what, error)
                time.sleep(_AGAIN_SECONDS)
            except FourlaneError as error:
                return log.error("%s: %s", what, error)
