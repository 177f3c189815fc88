"""All that can be told, and what is told of. An observer overrides what it wants to hear of; the rest does nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from fourlane.outcome import PLAIN, Outcome

__all__ = ["SLOW_SECONDS", "Ends", "Observer", "Span"]

SLOW_SECONDS: Final = 5.0
"""A run that takes longer has something to say, however it ends."""


class Span:
    """A part of a job, to say something of it while it is done."""

    def say(self, attributes: Mapping[str, Any]) -> None:
        """What is known of it by now."""

    def fail(self, why: str) -> None:
        """It is an error, though nothing need be raised."""


class Ends:
    """The runs of one service that a turn settles, with their outcomes. Good for as long as it is told.

    Most have nothing to say, and what is looked at here each job pays for: so it is looked at once, for all who hear.
    """

    __slots__ = ("_plain", "_special", "runs", "service")

    def __init__(self, service: str, runs: Sequence[tuple[Any, Outcome]]) -> None:
        self.service = service
        self.runs = runs
        self._plain: list[Any] | None = None
        self._special: list[tuple[Any, Outcome]] | None = None

    @property
    def plain(self) -> list[Any]:
        """The tasks (Plan) of those that ended well and have nothing to say."""
        if self._plain is None:
            self._plain = [
                run.plan
                for run, outcome in self.runs
                if outcome is PLAIN and run.trace is None and run.ended_at - run.started <= SLOW_SECONDS
            ]
        return self._plain

    @property
    def special(self) -> list[tuple[Any, Outcome]]:
        """The others."""
        if self._special is None:
            all_plain = len(self.plain) == len(self.runs)
            self._special = [] if all_plain else [pair for pair in self.runs if _is_special(*pair)]
        return self._special


def _is_special(run: Any, outcome: Outcome) -> bool:
    return outcome is not PLAIN or run.trace is not None or run.ended_at - run.started > SLOW_SECONDS


_NOTHING_ALONG: Final[AbstractContextManager[Mapping[str, str]]] = nullcontext({})
_NO_SPAN: Final[AbstractContextManager[Span]] = nullcontext(Span())


class Observer:
    """All that can be told. A ``run`` is one attempt at a job in this process (worker/run/run.py)."""

    # What is sent -------------------------------------------------------------------------------------------

    def sending(self, queue: str, task: str, number: int = 1) -> AbstractContextManager[Mapping[str, str]]:
        """Jobs are being enqueued, or events published: entered around it, gives what goes along in their options."""
        return _NOTHING_ALONG

    def trace_context(self) -> tuple[str, str]:
        """``traceparent`` and ``tracestate`` of what runs here, for log lines and events; empty for none."""
        return "", ""

    # A job's run --------------------------------------------------------------------------------------------

    def began(self, run: Any) -> None:
        """A job that has options begins, in its thread or coroutine."""

    def failed(self, run: Any, error: BaseException, outcome: Outcome) -> None:
        """Its function raised, and this is what comes of it. In its thread or coroutine."""

    def ended(self, run: Any, outcome: Outcome, error: BaseException | None) -> None:
        """It ended otherwise than plainly done. In its thread or coroutine."""

    def done(self, run: Any) -> None:
        """It ended plainly done. Each job pays for whoever hears of it."""

    def skipped(self, run: Any, why: str) -> None:
        """Middleware chose that it is not to run."""

    def discarded(self, run: Any) -> None:
        """It returned something that nobody keeps."""

    def result_refused(self, run: Any, why: str) -> None:
        """It is done, and what it returned cannot be kept."""

    def undecided(self, run: Any, detail: str, fault: BaseException) -> None:
        """It ended, and what that means could not be judged."""

    def turned(self, ends: Ends) -> None:
        """A turn is about to settle these. In the loop's thread."""

    # A worker's loop ----------------------------------------------------------------------------------------

    def declared(self, services: Sequence[str], tasks: Sequence[tuple[str, str, str]]) -> None:
        """What this worker serves, and its tasks (name, tier's word, service): before its loop runs."""

    def serving(self, service: str) -> None:
        """A service more, declared since the start."""

    def promoted(self, service: str, jobs: int) -> None:
        """Jobs were taken whose tasks other workers did not know."""

    def stale(self, service: str, runs: Sequence[Any]) -> None:
        """The ends of these do not count: their leases were lost before."""

    def refused(self, service: str, number: int) -> None:
        """Redis refused so many ends, for their leases were lost."""

    def leases_lost(self, service: str, worker: str, running: int) -> None:
        """So many jobs that run here are another worker's by now."""

    def reclaimed(self, service: str, worker: str, jobs: int, poison: int) -> None:
        """A worker fell silent, and its jobs were taken back; some had met too many deaths."""

    def dropped(self, service: str, letters: int) -> None:
        """Old dead letters went, over their number or age."""

    def abandoned(self, run: Any) -> None:
        """It did not end within the grace, and is given back."""

    def resting(self, now: float) -> float | None:
        """The loop is about to sleep. Returns by when it is to tell so again; None: it need not."""

    def closing(self) -> None:
        """The process ends: hand over what waits."""

    # Any part -----------------------------------------------------------------------------------------------

    def span(
        self, name: str, attributes: Mapping[str, Any], *, outgoing: bool = False, judged: bool = False
    ) -> AbstractContextManager[Span]:
        """Something is done: entered around it.

        Parameters:
          outgoing: it is a call to others.
          judged: who does it says itself whether it failed; an error need not mean that.
        """
        return _NO_SPAN

    def counted(self, name: str, labels: tuple[str, ...], value: float = 1) -> None:
        """A figure of the catalogue (observe/figures.py) goes up."""

    def timed(self, name: str, labels: tuple[str, ...], seconds: float) -> None:
        """A figure of the catalogue that is a time has one more."""

    def moved(self, name: str, labels: tuple[str, ...], by: float) -> None:
        """A figure of the catalogue that is a level, such as of what is open now, goes up or down."""

    def exemplar(self, name: str, labels: tuple[str, ...], trace_id: str, seconds: float) -> None:
        """Of one that was timed so, a trace is kept."""

    # Events -------------------------------------------------------------------------------------------------

    def published(self, queue: str, events: int, calls: int, seconds: float) -> None:
        """SQS accepted events."""

    def buffered(self, queue: str, events: int) -> None:
        """SQS could not be reached, and events went into the local buffer."""

    def received(self, queue: str, events: int, seconds: float) -> None:
        """One receive; ``seconds`` is how long it took."""

    def accepted(self, queue: str, jobs: int, known: int) -> None:
        """Redis accepted jobs; ``known`` of them it had before."""

    def handling(self, event: Any, handler: str) -> None:
        """A handler begins."""

    def handled(self, event: Any, handler: str, seconds: float, error: BaseException | None) -> None:
        """A handler ended."""

    def buried(self, queue: str, reason: str) -> None:
        """A message went to the dead-letter queue."""

    def called(self, action: str) -> None:
        """One billed call of SQS."""
