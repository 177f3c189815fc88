"""The leases of one consumer: which it believes to hold, and every turn that changes them."""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Final

import msgspec

from fourlane.errors import RedisUnavailable
from fourlane.names import Queue
from fourlane.outcome import Back, Done, Outcome
from fourlane.queues import control
from fourlane.queues.beat import SILENCE_MS
from fourlane.queues.contact import Contact
from fourlane.queues.redis import Link, is_refusal
from fourlane.queues.refusals import instead_of
from fourlane.queues.store import Store
from fourlane.queues.tally import Tally
from fourlane.queues.turn import Ask, Turn

__all__ = ["Holding"]

_IDLE_SILENCE_MS: Final = 60_000


class Holding:
    """Turns are taken under one lock, on one link, by whatever thread of dramatiq's has something to say."""

    def __init__(self, store: Store, queue: Queue, log: logging.Logger) -> None:
        self.store = store
        self.queue = queue
        self.keys = store.service(queue.service)
        self.name = _new_name()
        self.held: set[str] = set()
        self.freed = threading.Event()
        self.due_at = math.inf
        self.link = self.open()
        self._log = log
        self._lock = threading.RLock()
        self._out_of_step = False  # a turn failed: what Redis says we hold may not be what we know
        self._controlled = False  # the service has a pause or a limit
        self._lines = False  # jobs of the service name lines
        self._tally = Tally()
        self._told_at = -math.inf  # when others were last told to watch this one
        self._contact = Contact(time.monotonic())

    def open(self) -> Link:
        """A connection to the server of these jobs."""
        return self.store.connector.open(self.keys.jobs)

    def refresh(self) -> None:
        """In a cluster another node may be the one to ask."""
        try:
            self.store.connector.refresh()
        except RedisUnavailable as error:
            self._log.debug("%s", error)

    def lease(self, most: int) -> tuple[Turn, str] | None:
        """Lease until so many are held; what came of it, and under which name. None when so many are held already."""
        with self._lock:
            room = most - len(self.held)
            if room <= 0:
                return None
            now = time.monotonic()
            tells = now - self._told_at > SILENCE_MS / 1000
            turn = self._turn(Ask(room, str(int(self.queue.tier)), look=True, beat=True, watch=tells))
            self.held.update(leased.entry for leased in turn.jobs)
            if tells and self.held:
                self._told_at = now
            return turn, self.name

    def settle(self, entry: str, holder: str, outcome: Outcome) -> None:
        """Raises RedisUnavailable: it is not known to be settled. The same call may be repeated."""
        with self._lock:
            if self._out_of_step:
                self._resync()
            if holder != self.name or entry not in self.held:
                # Or the reply was lost that said that it was settled.
                self._log.warning("The lease on job %s is over: if this was not settled, it runs again.", entry)
                return
            turn = self._turn(Ask(), [(entry, outcome)])
            while turn.faults:
                [(_, why)] = turn.faults
                self._log.error("job=%s: Redis refused how it ended: %s", entry, why)
                if isinstance(outcome, Back):
                    raise RedisUnavailable(f"Redis refused how job {entry} ended, and to take it back: {why}")
                outcome = instead_of(outcome, why)
                turn = self._turn(Ask(), [(entry, outcome)])
        if turn.refused:
            self._log.warning("The lease on job %s was lost; it runs again elsewhere.", entry)

    def reclaim(self, name: str) -> None:
        """That consumer's or worker's time ran out."""
        if self._contact.whole_silence_at(time.monotonic()) > time.monotonic():
            return  # it may be Redis that was silent
        try:
            self.store.reclaim(self.queue.service, name, f"{name} fell silent")
        except RedisUnavailable as error:
            self._log.warning("%s", error)

    def beat(self, link: Link) -> None:
        """Say that these leases are alive. Raises RedisUnavailable."""
        name = self.name
        lost = self.store.beat(link, self.queue.service, [name], SILENCE_MS).lost
        with self._lock:
            if name in lost and name == self.name:
                self._begin_anew()

    def leave(self) -> None:
        """What it holds goes back. Raises RedisUnavailable."""
        self.store.leave(self.queue.service, self.name, self._tally.words())

    def _turn(self, ask: Ask, settled: Sequence[tuple[str, Outcome]] = ()) -> Turn:
        """With the lock held."""
        if self._out_of_step:
            self._resync()
        entries = {entry for entry, _ in settled}
        counts = ask.look or self._tally.is_due(time.monotonic())
        ask = msgspec.structs.replace(
            ask,
            held=len(self.held - entries),
            control=self._controlled,
            lines=self._lines,
            idle_silence_ms=_IDLE_SILENCE_MS,
        )
        try:
            turn = self.store.turn(
                self.link,
                self.queue.service,
                self.name,
                ask,
                done=[entry for entry, outcome in settled if isinstance(outcome, Done)],
                others=[(entry, outcome) for entry, outcome in settled if not isinstance(outcome, Done)],
                done_before=self._tally.words() if counts else "",
            )
        except BaseException as error:  # an interrupt too: dramatiq raises them in its threads
            self._out_of_step = True
            if isinstance(error, RedisUnavailable) and not is_refusal(error):
                self._lose_contact()
            raise
        if counts:
            self._tally.told()
        self._learn(turn, ask, settled)
        return turn

    def _learn(self, turn: Turn, ask: Ask, settled: Sequence[tuple[str, Outcome]]) -> None:
        now = time.monotonic()
        self._contact.heard(now)
        faults = {entry for entry, _ in turn.faults}
        over = {entry for entry, _ in settled} - faults
        self.held -= over
        self._out_of_step = turn.off
        unsettled = faults.union(turn.refused)
        self._tally.add((), [(entry, outcome) for entry, outcome in settled if entry not in unsettled])
        self._learn_control(turn, ask)
        self._lines = self._lines or turn.lines
        if turn.due_in is not None:
            self.due_at = now + turn.due_in / 1000
        if turn.lost:
            self._begin_anew()
        if over:
            self.freed.set()

    def _learn_control(self, turn: Turn, ask: Ask) -> None:
        known = self._controlled
        if turn.controlled or ask.control:
            self._controlled = turn.controlled
        if self._controlled and not known:  # what it leased before counts too
            try:
                control.rewrite(self.store, self.queue.service)
            except RedisUnavailable as error:
                self._log.warning("%s", error)
                self._controlled = False

    def _lose_contact(self) -> None:
        self._contact.broke(time.monotonic())
        self.refresh()
        self.link.close()
        try:
            self.link = self.open()
        except RedisUnavailable as error:
            self._log.debug("%s", error)

    def _resync(self) -> None:
        """After a lost reply: give back what Redis says we hold and we never received."""
        held = self.store.held(self.queue.service, self.name)
        strangers = held - self.held
        self.held &= held
        self._out_of_step = False
        if strangers:
            self._out_of_step = bool(self._turn(Ask(), [(entry, Back()) for entry in strangers]).faults)

    def _begin_anew(self) -> None:
        """Its leases were lost: under a new name it holds nothing, and what runs here will not count."""
        self.name = _new_name()
        self.held.clear()
        self.freed.set()


def _new_name() -> str:
    return f"consumer-{uuid.uuid4().hex[:12]}"
