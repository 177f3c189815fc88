"""One method per script: every change of a job's state."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from fourlane.errors import DuplicateJob
from fourlane.job import id_of_entry, new_ids
from fourlane.outcome import WAITERS_MS, Outcome
from fourlane.queues import ended
from fourlane.queues.batches import batches
from fourlane.queues.keys import EnvironmentKeys, ServiceKeys
from fourlane.queues.redis import Connector, Link
from fourlane.queues.redis.clock import RedisClock, time_ms
from fourlane.queues.turn import Ask, Turn, read_turn, turn_words

__all__ = ["Beat", "Delayed", "Store"]

_PART_JOBS = 250  # while Redis works on one part, the next is made
_TOLD_AGAIN_MS = 5_000  # a job may have been on its way to its worker when its cancelling was told


class Delayed(NamedTuple):
    """A job that may not run before its time: milliseconds from now, or since the epoch."""

    id: str
    body: bytes
    milliseconds: int
    since_epoch: bool = False


class Beat(NamedTuple):
    """What a beat told."""

    lost: list[str]
    """Names that hold nothing any more."""
    cancelled: list[str]
    """Ids of running jobs that were cancelled. Each is told more than once."""
    since_ms: int
    """Since when to ask the next time."""


class Store:
    """The jobs of one environment in Redis."""

    def __init__(
        self,
        connector: Connector,
        *,
        namespace: str = "fourlane",
        environment: str = "local",
        dead_max: int = 100_000,
        dead_ttl_ms: int = 30 * 86_400_000,
        crash_limit: int = 3,
    ) -> None:
        self.connector = connector
        self.namespace = namespace
        self.environment = environment
        self.dead_max = dead_max
        self.dead_ttl_ms = dead_ttl_ms
        self.crash_limit = crash_limit
        self.keys = EnvironmentKeys(namespace, environment)
        self._services: dict[str, ServiceKeys] = {}
        self._announced: set[str] = set()
        self.clock = RedisClock(lambda: time_ms(connector, self.keys.services))

    def answering_within(self, seconds: float) -> Store:
        """The same jobs, for who has others to look after: no connection waits longer than this for a reply."""
        same = copy.copy(self)
        same.connector = self.connector.answering_within(seconds)
        return same

    def service(self, service: str) -> ServiceKeys:
        """The keys of a service."""
        keys = self._services.get(service)
        if keys is None:
            keys = self._services.setdefault(service, ServiceKeys(self.namespace, self.environment, service))
        return keys

    def announce(self, service: str) -> None:
        """Put the service on the list of those that exist."""
        if service not in self._announced:
            self.connector.command(self.keys.services, "SADD", self.keys.services, service)
            self._announced.add(service)

    def forget_announced(self) -> None:
        """Announce each service anew: Redis has lost its data."""
        self._announced.clear()

    def services(self) -> list[str]:
        """All services that ever had a job or a worker."""
        return sorted(s.decode() for s in self.connector.command(self.keys.services, "SMEMBERS", self.keys.services))

    def enqueue(self, service: str, tier: int, pairs: Sequence[Any]) -> None:
        """Accept jobs of one tier that may run now: ``entry, body, entry, body, …``.

        Raises:
          DuplicateJob: some of the ids belong to other jobs; the others were accepted.
          RedisUnavailable: not all were accepted. The same call may be repeated.
        """
        if service not in self._announced:
            self.announce(service)
        keys = self.service(service)
        names = (keys.jobs, keys.ready[tier], keys.wake[tier])
        if len(pairs) == 2:
            reply = self.connector.run_once("enqueue", names, (tier, *pairs), keys.sent)
            _refuse_taken(reply[1:])
            return
        calls = ((tier, *batch) for batch in batches(pairs, 2))
        _refuse_taken(_ids_of(self.connector.run_each_once("enqueue", names, calls, keys.sent)))

    def enqueue_new(self, service: str, tier: int, bodies: Sequence[bytes], now_ms: int) -> list[str]:
        """Accept jobs of one tier that may run now, under fresh ids. Returns the ids.

        Raises:
          RedisUnavailable: not all were accepted.
        """
        if service not in self._announced:
            self.announce(service)
        keys = self.service(service)
        ids: list[str] = []

        def calls() -> Iterator[Sequence[Any]]:
            for part in batches(bodies, 1, _PART_JOBS):
                fresh = new_ids(tier, now_ms, len(part))
                ids.extend(fresh)
                args: list[Any] = [tier] * (2 * len(part) + 1)
                args[1::2], args[2::2] = fresh, part
                yield args

        names = (keys.jobs, keys.ready[tier], keys.wake[tier])
        taken = [i.decode() for i in _ids_of(self.connector.run_each_once("enqueue", names, calls(), keys.sent))]
        if taken:  # one chance in millions; other ids have no such luck
            positions = [ids.index(i) for i in taken]
            others = self.enqueue_new(service, tier, [bodies[position] for position in positions], now_ms)
            for position, other in zip(positions, others, strict=True):
                ids[position] = other
        return ids

    def enqueue_once(self, service: str, tier: int, job_id: str, body: bytes, *, key: str, ttl_ms: int) -> str:
        """Accept a job that may run now, unless one was accepted under this key within its ttl.

        Returns the id of the job that was accepted under the key: this one's, or the earlier one's.

        Raises:
          DuplicateJob: the id belongs to another job.
          RedisUnavailable: it is not known to be accepted. The same call may be repeated.
        """
        self.announce(service)
        keys = self.service(service)
        names = (keys.jobs, keys.ready[tier], keys.wake[tier], keys.once(key))
        holder = self.connector.run("enqueue_once", names, (tier, ttl_ms, job_id, body))
        if holder is None:
            raise DuplicateJob(f"{job_id} belongs to another job")
        return str(holder.decode())

    def delay(self, service: str, jobs: Iterable[Delayed]) -> None:
        """Accept jobs that may not run yet. Raises as enqueue does."""
        self.announce(service)
        keys = self.service(service)
        flat: list[Any] = []
        for job in jobs:
            flat += (job.id, job.body, "at" if job.since_epoch else "in", job.milliseconds)
        names = (keys.jobs, keys.delayed, keys.news)
        _refuse_taken(_ids_of(self.connector.run_each_once("delay", names, batches(flat, 4), keys.sent)))

    def turn(
        self,
        link: Link,
        service: str,
        name: str,
        ask: Ask,
        *,
        done: Sequence[str] = (),
        others: Sequence[tuple[str, Outcome]] = (),
        done_before: str = "",
    ) -> Turn:
        """Settle what finished, return what is due, lease what fits (lua/turn.lua).

        Parameters:
          done: entries of jobs that are done, plainly.
          others: entries of jobs that ended otherwise, and how.
          done_before: jobs done that are to be counted (tally.py).
        """
        keys, words = turn_words(
            self.service(service), name, ask, done=done, others=others, done_before=done_before, dead=self._dead
        )
        return read_turn(link.run("turn", keys, words))

    def ask_ahead(self, link: Link, service: str, name: str, ask: Ask, *, wait_ms: int = 0) -> None:
        """Send a turn that only leases, without waiting for its reply: behind a blocking wait on the same link.

        Parameters:
          wait_ms: how long that may last. Only of an idle worker nobody expects to hear until after it and a silence.
        """
        idle_from_ms = self.clock.now_ms() + wait_ms + ask.silence_ms
        keys, words = turn_words(self.service(service), name, ask, idle_from_ms=idle_from_ms, dead=self._dead)
        link.send_script("turn", keys, words)

    def hear_ahead(self, link: Link) -> Turn | None:
        """The reply to ``ask_ahead``; None when nothing was done. Raises RedisUnavailable."""
        reply = link.receive_script()
        turn = None if reply is None else read_turn(reply)
        return None if turn is None or turn.gone else turn

    @property
    def _dead(self) -> tuple[int, int]:
        return self.dead_max, self.dead_ttl_ms

    def beat(self, link: Link, service: str, names: Sequence[str], silence_ms: int, since_ms: int = 0) -> Beat:
        """Keep leases alive, and hear what was cancelled since a time of Redis's."""
        keys = self.service(service)
        lost: list[str] = []
        cancelled: list[str] = []
        while True:
            args = (silence_ms, since_ms, len(cancelled), *names)
            gone, ids, now, more = link.run("beat", (keys.workers, keys.cancels, keys.jobs), args)
            lost += [n.decode() for n in gone if n.decode() not in lost]
            cancelled += [i.decode() for i in ids]
            if not more:
                return Beat(lost, cancelled, int(now) - _TOLD_AGAIN_MS)

    def leave(self, service: str, name: str, done: str = "") -> int:
        """A worker goes; returns the number of jobs that it still held.

        Parameters:
          done: jobs done that it has not told of in a turn, as ``turn`` takes them (tally.py).
        """
        keys = self.service(service)
        names = [*keys.all, keys.leased(name), keys.counted(name)]
        return int(self.connector.run_once("leave", names, (name, done), keys.sent)[0])

    def reclaim(
        self,
        service: str,
        name: str,
        fate: str,
        begun: Sequence[str] | None = None,
        *,
        ran: int | None = None,
        alone: bool = False,
        passed: Sequence[str] = (),
        guilty: bool = False,
        unbegun_ms: int = 0,
    ) -> tuple[int, list[str]]:
        """Take a dead worker's jobs back. Returns how many, and the ids that became dead letters (poison).

        Parameters:
          begun: entries of the jobs that were running, when a supervisor saw the death; None when only silence
            tells of it, then nothing happens unless the worker's time has run out.
          ran: how many jobs of whatever service were running in that process; as many as ``begun`` by default.
          alone: the only suspect among them was on trial; deaths in which it was so tell against it.
          passed: entries of suspects that had lived through their trials there: those deaths tell no more.
          guilty: the process was killed for what these jobs did, and no other counts a crash.
          unbegun_ms: how long those wait that had not begun: what killed this process may lie among them.
        """
        how = "silent" if begun is None else "guilty" if guilty else "reported"
        suspects = sorted(self.held(service, name)) if begun is None else begun
        keys = self.service(service)
        names = [*keys.all, keys.leased(name), *(keys.result(id_of_entry(entry)) for entry in suspects)]
        detail = f"poison: {fate}"
        args: list[Any] = [name, how, self.crash_limit, self.dead_max, self.dead_ttl_ms, fate]
        args += [len(begun or ()) if ran is None else ran, *ended.body_around_id(detail), unbegun_ms, int(alone)]
        args += [ended.for_waiters(detail), WAITERS_MS, len(passed), *passed, *suspects]
        back, poisoned, left = 0, [], 1
        while left > 0:
            some, dead, left = self.connector.run_once("reclaim", names, args, keys.sent)
            back += some
            poisoned += [i.decode() for i in dead]
        return back, poisoned

    def held(self, service: str, name: str) -> set[str]:
        """The entries that Redis says this worker holds."""
        key = self.service(service).leased(name)
        return {entry.decode() for entry in self.connector.command(key, "SMEMBERS", key)}

    def wake(self, service: str, tier: int) -> None:
        """End the wait of one idle worker."""
        key = self.service(service).wake[tier]
        self.connector.command(key, "ZADD", key, 0, tier)

    def have_watched(self, service: str, token: str) -> None:
        """Have an idle worker watch those that hold leases: ``w`` two, ``v`` one more."""
        key = self.service(service).watch
        self.connector.command(key, "ZADD", key, 0, token)

    def lease_names(self, service: str) -> list[str]:
        """The workers of a service, dead ones included until they are noticed."""
        key = self.service(service).workers
        return [name.decode() for name in self.connector.command(key, "ZRANGE", key, 0, -1)]


def _ids_of(replies: Iterable[list[bytes]]) -> list[bytes]:
    """The ids in replies of enqueue.lua and delay.lua."""
    return [job_id for reply in replies for job_id in reply[1:]]


def _refuse_taken(taken: Sequence[bytes]) -> None:
    if taken:
        ids = [i.decode() for i in taken]
        raise DuplicateJob(f"{len(ids)} job id(s) belong to other jobs already: {', '.join(ids[:3])}", ids)
