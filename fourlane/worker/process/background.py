"""What a supervisor runs in threads beside its processes: who keeps what was declared, the scheduler, the metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from fourlane.queues.kept import Keeper
from fourlane.queues.store import Store
from fourlane.watchdog import Watchdog, ping_of
from fourlane.worker.process.child import Child
from fourlane.worker.process.options import Options

if TYPE_CHECKING:
    from fourlane.observe.metrics import Host
    from fourlane.observe.otlp import Pusher
    from fourlane.queues.status import Beyond
    from fourlane.scheduler.ticker import Scheduler

__all__ = ["Background", "Outside", "metrics_of"]


class Outside(Protocol):
    """Looks at what lies beyond the queues (tasks/upkeep/beyond.py); threads share it."""

    @property
    def has_database(self) -> bool: ...

    def look(self, store: Store) -> Beyond: ...
    def database_answers(self) -> bool: ...


class Background:
    """Runs from its construction until close.

    Parameters:
      declare_again: is called when Redis lost what was declared.
      end_stuck: stops the supervisor, when the scheduler does no work any more.
    """

    def __init__(
        self,
        store: Store,
        options: Options,
        metrics: Host | None,
        *,
        declare_again: Callable[[], None],
        end_stuck: Callable[[], None],
    ) -> None:
        """Raises RedisUnavailable."""
        self._metrics = metrics
        self._keeper = Keeper(store, declare_again)
        self._scheduler = _scheduler(store, end_stuck) if options.scheduler else None
        self._pusher = _pusher(metrics, options) if metrics is not None and options.observe.otlp_metrics else None

    def stop(self) -> None:
        """Those that work for the processes."""
        self._keeper.stop()
        if self._scheduler is not None:
            self._scheduler.stop()

    def close(self) -> None:
        """Those that tell of them: the last."""
        if self._pusher is not None:
            self._pusher.close()
        if self._metrics is not None:
            self._metrics.close()


def _scheduler(store: Store, end_stuck: Callable[[], None]) -> Scheduler:
    from fourlane.scheduler.ticker import start_scheduler

    watchdog = Watchdog(end=end_stuck)
    watchdog.start(ping_of(store.connector, store.keys.edits))
    return start_scheduler(store, watchdog)


def _pusher(metrics: Host, options: Options) -> Pusher:
    from fourlane.observe.otlp import Pusher

    pusher = Pusher(metrics.collect, options.observe)
    pusher.start()
    return pusher


def metrics_of(
    store: Store, options: Options, outside: Callable[[], Outside] | None, children: Sequence[Child]
) -> Host | None:
    """The metrics of this worker; None when nobody is to have them. ``outside``: as the supervisor is given it."""
    if not (options.observe.metrics or options.observe.otlp_metrics):
        return None
    from fourlane.observe.metrics import Host

    def processes() -> list[tuple[str, int, int, float]]:
        """For a scrape, from another thread: name, jobs that run, slots and megabytes of each process."""
        found = []
        for child in list(children):
            try:
                found.append((child.name, len(child.table.running()), options.slots, child.rss_mb()))
            except ValueError:  # it has just ended and its table is closed
                continue
        return found

    if outside is None:
        return Host(store, processes)
    return Host(store, processes, lambda: outside().look(store))
