"""Tells those who hear of an end (decide.py:tells): middleware, callbacks, waiters."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from dramatiq.middleware import SkipMessage

from fourlane import job
from fourlane.errors import RedisUnavailable
from fourlane.options import result_ttl_ms
from fourlane.queues import carry, ended
from fourlane.queues.broker import RedisBroker
from fourlane.queues.results import Results
from fourlane.queues.words import words_of
from fourlane.worker.run.callbacks import Sender
from fourlane.worker.run.decide import Tell
from fourlane.worker.run.expiry import WORDS_OF_DRAMATIQ, Expired
from fourlane.worker.run.run import Run

__all__ = ["Hearers"]

log = logging.getLogger("fourlane.worker")


class Hearers:
    """Of the ends of one worker's runs. They hear ``run.error``."""

    def __init__(self, broker: RedisBroker, sender: Sender) -> None:
        self._broker = broker
        self._sender = sender

    def tell_who_can(self, run: Run, told: Sequence[Tell]) -> None:
        """All of these, whoever of them cannot be told."""
        for tell in told:
            try:
                with carry.sealing(run.seal is not None):
                    self.tell(run, tell)
            except BaseException as fault:
                log.error("the end of job %s could not be told: %s", run.leased.entry, words_of(fault))

    def tell(self, run: Run, tell: Tell) -> None:
        match tell:
            case "ack":
                self._call_settling(run, "before_ack", "after_ack")
            case "on_failure":
                self._sender.send_failure(run)
            case "on_retry_exhausted":
                self._sender.send_exhausted(run)
            case "skip":
                if isinstance(run.error, Expired):  # middleware, and who waits for its results, hear dramatiq's words
                    run.error = SkipMessage(WORDS_OF_DRAMATIQ)
                self._broker.call_hooks(self._broker.hooks("after_skip_message", native=False), (run,), {})
            case "nack":
                self._call_settling(run, "before_nack", "after_nack")
            case "waiters":
                self._tell_waiters(run)

    def _call_settling(self, run: Run, *signals: str) -> None:
        """Acks and nacks hear of what is decided, and change nothing of it."""
        for signal in signals:
            for hook in self._broker.hooks(signal, native=False):
                try:
                    hook(self._broker, run)
                except BaseException:  # whatever it is, the job has ended as it has
                    self._broker.logger.critical("Unexpected failure in %r.", hook, exc_info=True)

    def _tell_waiters(self, run: Run) -> None:
        if not result_ttl_ms(run.envelope.options, run.plan.result_ttl_ms):
            return
        stored = job.id_of_entry(run.leased.entry)
        told = ended.for_waiters(str(run.error), cancelled=True)
        try:
            Results(self._broker.store).tell_end(run.service.name, stored, told)
        except RedisUnavailable as fault:
            log.warning("who waits for job %s is not told that it was cancelled: %s", run.id, fault)
