"""When a group is complete: counted by its members, each once, where dramatiq's barrier counts each of their runs.

A worker may die between the count and the settling of a member, which then runs again. The barrier would be one short
for the others, and never clear again when it had just cleared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import dramatiq
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits import RateLimiterBackend

from fourlane.errors import RedisUnavailable
from fourlane.queues.redis import is_passing

if TYPE_CHECKING:
    from fourlane.queues.store import Store

__all__ = ["MemberCallbacks"]

_AWAY_SECONDS: Final = 1.0
_COMPLETE_MS: Final = 3_600_000  # well over the time in which a member runs again


class _Groups(RateLimiterBackend):
    """What dramatiq makes a group's barrier with; nothing else is asked of it."""

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store

    def add(self, key: str, value: int, ttl: int) -> bool:
        store = self._store()
        store.connector.run("group_begin", (store.keys.group(key),), (value, ttl))
        return True


class MemberCallbacks(GroupCallbacks):
    """Takes the place of dramatiq's own middleware in a broker of ours. Groups from before are counted as they were."""

    def __init__(self, given: GroupCallbacks, store: Callable[[], Store]) -> None:
        super().__init__(given.rate_limiter_backend, barrier_ttl=given.barrier_ttl)
        self._given: Any = given
        self.rate_limiter_backend = _Groups(store)
        self._store = store

    def after_process_message(
        self, broker: dramatiq.Broker, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        group = message.options.get("group_completion_uuid")
        callbacks = message.options.get("group_completion_callbacks")
        if exception is not None or not group or not callbacks:
            return
        while True:
            try:
                known = self._count(broker, group, message.message_id, callbacks)
                break
            except RedisUnavailable as error:
                if not is_passing(error):
                    raise
                time.sleep(_AWAY_SECONDS)  # the member cannot be settled meanwhile either
        if not known:
            self._given.after_process_message(broker, message, result=result, exception=exception)

    def _count(self, broker: dramatiq.Broker, group: str, member: str, callbacks: list[dict[str, Any]]) -> bool:
        """Whether the group is known."""
        store = self._store()
        word = store.connector.run("group_done", (store.keys.group(group),), (member, _COMPLETE_MS))
        for callback in callbacks if word == 1 else ():
            broker.enqueue(dramatiq.Message(**callback))
        return bool(word != -1)
