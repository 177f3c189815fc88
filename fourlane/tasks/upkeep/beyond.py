"""What lies beyond the queues, for those who look at how all is: database, outbox, event queues, budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fourlane.db.setup import database, has_database
from fourlane.errors import DatabaseUnavailable, FourlaneError
from fourlane.queues.status import Beyond, Lag, Spending
from fourlane.root import Root

if TYPE_CHECKING:
    from fourlane.queues.store import Store

__all__ = ["Outside"]

_MOST_TENANTS = 1_000
_MOST_STREAMS = 200


class Outside:
    """Looks at what the settings name, by parts that are opened when they are first looked at. Threads may share it.

    The outbox is looked at when there is a database that has its table; event queues, which cost requests, when
    FOURLANE_WATCH_STREAMS says so; the budgets of FOURLANE_AI.
    """

    def __init__(self, of: Root) -> None:
        self._root = of
        self.settings = of.settings

    @property
    def has_database(self) -> bool:
        return has_database(self.settings)

    def look(self, store: Store) -> Beyond:
        """What can be known now; what cannot be asked is named. Raises RedisUnavailable."""
        lags: list[Lag] = []
        unreachable: dict[str, str] = {}
        if self.has_database:
            try:
                lags += self._outbox()
            except FourlaneError as error:
                unreachable["the database"] = str(error)
        if self.settings.watch_streams:
            try:
                lags += self._streams()
            except FourlaneError as error:
                unreachable["the event queues"] = str(error)
        return Beyond(lags, self._spending(store), unreachable)

    def database_answers(self) -> bool:
        """Whether the database takes a statement."""
        from fourlane.outbox import browse

        try:
            browse.is_there(self._root.part(database))
        except DatabaseUnavailable:
            return False
        return True

    def _outbox(self) -> list[Lag]:
        from fourlane.outbox import browse

        ours = self._root.part(database)
        if not browse.is_there(ours):
            return []
        found = browse.summary(ours)
        return [Lag("outbox", "outbox", found.pending, found.oldest_age_ms, found.newly_failed)]

    def _streams(self) -> list[Lag]:
        from fourlane.events import operate
        from fourlane.events.setup import sqs

        aws = self._root.part(sqs)
        queues = operate.queues(aws, self.settings.environment)[:_MOST_STREAMS]
        return [Lag("stream", str(queue), operate.counts(aws, queue).waiting) for queue in queues]

    def _spending(self, store: Store) -> list[Spending]:
        if not (self.settings.ai.budgets_usd or self.settings.ai.budgets):
            return []
        from fourlane.tasks.ai.config import config_of
        from fourlane.tasks.ai.money.budget_rules import NANO
        from fourlane.tasks.ai.money.spent import uses

        found = [use for use in uses(store, self._root.part(config_of), _MOST_TENANTS) if use.used or use.refusing]
        return [
            Spending(str(one.budget), one.used / NANO, one.budget.nano / NANO, one.refusing, one.warn_at)
            for one in found
        ]
