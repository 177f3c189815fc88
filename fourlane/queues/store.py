"""One method per script: every change of a job's state."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from fourlane.errors import DuplicateJob, RedisUnavailable
from fourlane.job import new_ids
from fourlane.outcome import WAITERS_MS, Outcome
from fourlane.queues import ended
from fourlane.queues.clock import RedisClock
from fourlane.queues.connection import Connector, Link, blocks_for, is_full
from fourlane.queues.keys import EnvironmentKeys, ServiceKeys
from fourlane.queues.turn import Ask, Turn, read_turn, turn_words

__all__ = ["Accepting", "Beat", "Delayed", "Relayed", "Store"]

_BATCH_JOBS = 1_000
_PART_JOBS = 250  # while Redis works on one part, the next is made
_DAY_MS = 86_400_000
_REMEMBER_MS = 3 * _DAY_MS  # the set of a day is read until the end of the next one, by clocks that differ
_POLL_SECONDS = 0.1
_TOLD_AGAIN_MS = 5_000  # a job may have been on its way to its worker when its cancelling was told
_BATCH_BYTES = 4_000_000  # hosted servers refuse requests over 10 MB


class Delayed(NamedTuple):
    """A job that may not run before its time: milliseconds from now, or since the epoch."""

    id: str
    body: bytes
    milliseconds: int
    since_epoch: bool = False


class Accepting(NamedTuple):
    """A job that an event makes: its entry, its body, and when it may run (milliseconds since the epoch; 0: now)."""

    entry: str
    body: bytes
    due_ms: int = 0


class Relayed(NamedTuple):
    """A job that comes from the outbox. Milliseconds since the epoch; ``due_ms`` None means now."""

    id: str
    entry: str
    due_ms: int | None
    body: bytes


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
        self.clock = RedisClock(self._time_ms)

    def answering_within(self, seconds: float) -> Store:
        """The same jobs, for who has others to look after: no connection waits longer than this for a reply."""
        same = copy.copy(self)
        same.connector = self.connector.answering_within(seconds)
        return same

    def _time_ms(self) -> int:
        seconds, microseconds = self.connector.command(self.keys.services, "TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

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

    # Enqueue ------------------------------------------------------------------------------------------------

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
        batches = ((tier, *batch) for batch in _batches(pairs, 2))
        _refuse_taken(_ids_of(self.connector.run_each_once("enqueue", names, batches, keys.sent)))

    def enqueue_new(self, service: str, tier: int, bodies: Sequence[bytes], now_ms: int) -> list[str]:
        """Accept jobs of one tier that may run now, under fresh ids. Returns the ids.

        Raises:
          RedisUnavailable: not all were accepted.
        """
        if service not in self._announced:
            self.announce(service)
        keys = self.service(service)
        ids: list[str] = []

        def batches() -> Iterator[Sequence[Any]]:
            for part in _batches(bodies, 1, _PART_JOBS):
                fresh = new_ids(tier, now_ms, len(part))
                ids.extend(fresh)
                args: list[Any] = [tier] * (2 * len(part) + 1)
                args[1::2], args[2::2] = fresh, part
                yield args

        names = (keys.jobs, keys.ready[tier], keys.wake[tier])
        taken = [i.decode() for i in _ids_of(self.connector.run_each_once("enqueue", names, batches(), keys.sent))]
        if taken:  # one chance in millions; other ids have no such luck
            places = [ids.index(i) for i in taken]
            others = self.enqueue_new(service, tier, [bodies[place] for place in places], now_ms)
            for place, other in zip(places, others, strict=True):
                ids[place] = other
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

    def latest(self, service: str, key: str) -> int:
        """The newest time that `mark_latest` was told under this key; -1 for none."""
        name = self.service(service).latest(key)
        return int(self.connector.command(name, "GET", name) or -1)

    def mark_latest(self, service: str, key: str, time: int, *, ttl_ms: int) -> None:
        """Remember the newest time seen under a key."""
        self.connector.run("latest", (self.service(service).latest(key),), (time, ttl_ms))

    def hold(self, service: str, key: str, who: str, *, places: int, hold_ms: int) -> int:
        """Take one of a receiver's places: 0 taken, -1 none is free, else ms until its breaker may be tried."""
        keys = self.service(service)
        return int(self.connector.run("hold", (keys.places(key), keys.breaker(key)), (places, who, hold_ms)))

    def let_go(self, service: str, key: str, who: str) -> None:
        """Give the place back."""
        name = self.service(service).places(key)
        self.connector.command(name, "ZREM", name, who)

    def open_breaker(self, service: str, key: str, for_ms: int) -> None:
        """Leave a receiver alone for a while."""
        name = self.service(service).breaker(key)
        self.connector.command(name, "SET", name, 1, "PX", for_ms)

    def delay(self, service: str, jobs: Iterable[Delayed]) -> None:
        """Accept jobs that may not run yet. Raises as enqueue does."""
        self.announce(service)
        keys = self.service(service)
        flat: list[Any] = []
        for job in jobs:
            flat += (job.id, job.body, "at" if job.since_epoch else "in", job.milliseconds)
        names = (keys.jobs, keys.delayed, keys.news)
        _refuse_taken(_ids_of(self.connector.run_each_once("delay", names, _batches(flat, 4), keys.sent)))

    def relay(
        self,
        service: str,
        jobs: Sequence[Relayed],
        *,
        not_after_ms: int,
        remember_ms: int,
        confirmed: Sequence[str],
        remember_confirmed_ms: int,
    ) -> tuple[int, int | None]:
        """Accept jobs of the outbox, each once (lua/relay.lua). The call may be repeated.

        Parameters:
          not_after_ms: Redis refuses the jobs after this time of its own.
          remember_ms: how long their ids are remembered.
          confirmed: ids of earlier calls that need to be remembered only for ``remember_confirmed_ms`` more.

        Returns the time at Redis, and how many were new; None when it was too late.
        """
        self.announce(service)
        keys = self.service(service)
        args: list[Any] = [not_after_ms, remember_ms, remember_confirmed_ms, len(confirmed), *confirmed]
        for job in jobs:
            args += (job.id, job.entry, "" if job.due_ms is None else job.due_ms, job.body)
        names = (keys.jobs, keys.relayed, keys.delayed, keys.news, *keys.ready, *keys.wake)
        now, *words = self.connector.run("relay", names, args)
        return int(now), None if words == [b"late"] else words.count(b"new")

    # Events -------------------------------------------------------------------------------------------------

    def accept(self, service: str, tier: int, jobs: Sequence[Accepting]) -> int:
        """Accept jobs that events make, each id once in a day at least. Returns how many were not known before.

        Raises:
          RedisUnavailable: not all were accepted. The same call may be repeated.
        """
        self.announce(service)
        keys = self.service(service)
        names = [keys.jobs, keys.ready[tier], keys.wake[tier], keys.delayed, keys.news, *keys.taken(_today())]
        flat: list[Any] = []
        for accepting in jobs:
            flat += (accepting.entry, accepting.body, accepting.due_ms)
        new = 0
        for batch in _batches(flat, 3):
            new += int(self.connector.run("accept", names, (tier, _REMEMBER_MS, *batch)))
        return new

    def was_taken(self, service: str, ids: Sequence[str]) -> list[bool]:
        """Which of these jobs events made, or handled straight from SQS, today or yesterday."""
        found = [False] * len(ids)
        for key in self.service(service).taken(_today()):
            present = self.connector.command(key, "SMISMEMBER", key, *ids)
            found = [old or bool(new) for old, new in zip(found, present, strict=True)]
        return found

    def take(self, service: str, ids: Sequence[str]) -> None:
        """Remember that these were handled."""
        key = self.service(service).taken(_today())[0]
        self.connector.run("take", (key,), (_REMEMBER_MS, *ids))

    def claim(self, service: str, job_id: str, owner: str, milliseconds: int) -> bool:
        """Be the only one that runs this for a time; true also for the one that has the claim."""
        key = self.service(service).claim(job_id)
        return bool(self.connector.run("claim", (key,), (owner, milliseconds)))

    def release(self, service: str, job_id: str, owner: str) -> None:
        """Give a claim up, if one has it still."""
        key = self.service(service).claim(job_id)
        self.connector.run("release", (key,), (owner,))

    # Work ---------------------------------------------------------------------------------------------------

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
        keys = self.service(service)
        if ran is None:
            ran = len(begun or ())
        how = "silent" if begun is None else "guilty" if guilty else "reported"
        detail = f"poison: {fate}"
        args: list[Any] = [name, how, self.crash_limit, self.dead_max, self.dead_ttl_ms, fate, ran]
        args += [*ended.body_around_id(detail), unbegun_ms, int(alone), len(passed), *passed]
        args += begun or ()
        back, poisoned, left = 0, [], 1
        while left > 0:
            some, dead, left = self.connector.run_once("reclaim", [*keys.all, keys.leased(name)], args, keys.sent)
            back += some
            poisoned += [i.decode() for i in dead]
            for job_id in dead:
                self.tell_waiters(service, job_id.decode(), detail)
        return back, poisoned

    def tell_waiters(self, service: str, job_id: str, detail: str, *, cancelled: bool = False) -> None:
        """Tell who waits for the result right now. Who is not told, finds it by the job's state some seconds later.

        Parameters:
          job_id: as it is stored.
          cancelled: it was cancelled; otherwise it is a dead letter.

        Raises RedisUnavailable.
        """
        value = {"error": detail, "cancelled": True} if cancelled else {"error": detail}
        key = self.service(service).result(job_id)
        self.connector.run("ended", (key,), (msgspec.json.encode(value), WAITERS_MS))

    def read_result(self, key: bytes, wait_seconds: float) -> bytes | None:
        """A job's result; None when there was none in this time. At most some seconds: a socket has a timeout."""
        if wait_seconds > 0:
            try:
                # Moving the only element of a list onto the same list leaves it for others who wait.
                data = self.connector.command(key, "BLMOVE", key, key, "LEFT", "LEFT", blocks_for(wait_seconds))
            except RedisUnavailable as error:
                if not is_full(error):
                    raise
                time.sleep(min(wait_seconds, _POLL_SECONDS))
            else:
                return data if isinstance(data, bytes) else None
        data = self.connector.command(key, "LINDEX", key, 0)
        return data if isinstance(data, bytes) else None

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

    def unfinished(self, service: str) -> int:
        """How many of a service's jobs are ready, delayed or running."""
        return int(self.connector.run("unfinished", self.service(service).all, ()))

    def lease_names(self, service: str) -> list[str]:
        """The workers of a service, dead ones included until they are noticed."""
        key = self.service(service).workers
        return [name.decode() for name in self.connector.command(key, "ZRANGE", key, 0, -1)]


def _today() -> int:
    return int(time.time() * 1000) // _DAY_MS


def _batches(flat: Sequence[Any], step: int, most: int = _BATCH_JOBS) -> Iterator[Sequence[Any]]:
    """Cut what is given for jobs, ``step`` things for each, the body being the second of them or the only one."""
    first = size = 0
    for i in range(0, len(flat), step):
        body = len(flat[i + (step > 1)])
        size += body
        if i - first >= most * step or (size > _BATCH_BYTES and i > first):
            yield flat[first:i]
            first, size = i, body
    if first < len(flat):
        yield flat[first:]


def _ids_of(replies: Iterable[list[bytes]]) -> list[bytes]:
    """The ids in replies of enqueue.lua and delay.lua."""
    return [job_id for reply in replies for job_id in reply[1:]]


def _refuse_taken(taken: Sequence[bytes]) -> None:
    if taken:
        names = ", ".join(i.decode() for i in taken[:3])
        raise DuplicateJob(f"{len(taken)} job id(s) belong to other jobs already: {names}")
