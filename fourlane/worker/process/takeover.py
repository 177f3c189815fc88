"""The broker that a program's modules set takes the place of the one that its worker process began with."""

from __future__ import annotations

import logging
import uuid
from typing import Final

import dramatiq
import dramatiq.broker

from fourlane.errors import SettingsError
from fourlane.queues.broker import RedisBroker, made
from fourlane.queues.claims import Claim, Claims
from fourlane.queues.store import Store

__all__ = ["take_over"]

log = logging.getLogger("fourlane.worker")

_PROBE_MS: Final = 10_000


def take_over(first: RedisBroker) -> None:
    """What was declared on the process's first broker is served by the program's own, which must be of its store.

    Raises:
      SettingsError: it is of another: nobody would beat for the jobs that are leased from there, and each would
        be taken for one whose worker died.
      RedisUnavailable: it does not answer.
    """
    broker = dramatiq.broker.global_broker
    _tell_of_others(first, broker)
    if broker is first or broker is None:
        return
    if not isinstance(broker, RedisBroker):
        names = ", ".join(sorted(broker.actors)[:5]) or "none yet"
        log.warning(
            "the program's broker is %s.%s: its actors (%s) are not served here; set fourlane.RedisBroker() for that",
            type(broker).__module__, type(broker).__name__, names,
        )  # fmt: skip
        return
    fault = _difference(broker.store, first.store)
    if fault:
        raise SettingsError(
            f"the program's broker and this worker work on different jobs: {fault}; leave those arguments of "
            "fourlane.RedisBroker(...) off, so that it takes them from the settings, or start the worker with the same"
        )
    for name, actor in first.actors.items():
        if name not in broker.actors:
            actor.broker = broker
            broker.declare_actor(actor)


def _tell_of_others(first: RedisBroker, served: dramatiq.Broker | None) -> None:
    """Of actors that nobody would miss until their jobs wait for ever."""
    for other in made:
        if other.actors and other not in (first, served):
            log.warning(
                "the actors of another broker (%s) are not served here; start the worker with MODULE:BROKER, or call "
                "dramatiq.set_broker(BROKER) in the module", ", ".join(sorted(other.actors)[:5]),
            )  # fmt: skip


def _difference(own: Store, of_worker: Store) -> str:
    """How the program's store differs from its worker's; empty when both are the same."""
    words = [
        f"{what}: the broker has {has!r}, the worker {wants!r} ({setting})"
        for what, has, wants, setting in (
            ("environment", own.environment, of_worker.environment, "FOURLANE_ENVIRONMENT"),
            ("namespace", own.namespace, of_worker.namespace, "FOURLANE_NAMESPACE"),
        )
        if has != wants
    ]
    address, expected = own.connector.address, of_worker.connector.address
    if not words and (address != expected or own.connector.clustered) and not _share(own, of_worker):
        words.append(f"server: the broker has {address}, the worker {expected} (REDIS_URL)")
    return ", ".join(words)


def _share(one: Store, other: Store) -> bool:
    """Whether both reach the same keys: one server may have several addresses."""
    probe, service = uuid.uuid4().hex, "default"
    stores = {"the program": one, "the worker": other}
    claims = {who: Claims(store) for who, store in stores.items()}
    told = [claims[who].claim(service, probe, who, _PROBE_MS) for who in stores]
    for who in stores:
        claims[who].release(service, probe, who)
    return Claim.OTHERS in told
