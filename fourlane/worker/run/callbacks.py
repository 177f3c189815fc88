"""Jobs that a job's end sends: ``on_success``, pipelines, ``on_failure``, ``on_retry_exhausted``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from dramatiq.middleware import Callbacks, Pipelines

from fourlane.errors import RedisUnavailable
from fourlane.options import without_end
from fourlane.queues.broker import RedisBroker
from fourlane.queues.redis import is_refusal, lacks_right
from fourlane.queues.words import text_of
from fourlane.worker.run.run import Run

__all__ = ["SUCCESS_SENDERS", "Sender", "sends_after_errors", "sends_after_success"]

log = logging.getLogger("fourlane.worker")

SUCCESS_SENDERS: Final = (Callbacks, Pipelines)
"""dramatiq's middleware that sends these after a success."""
_AFTER_SUCCESS: Final = frozenset(("on_success", "pipe_target"))
_AFTER_ERRORS: Final = frozenset(("on_failure", "on_retry_exhausted"))
_AGAIN_SECONDS: Final = 0.5


def sends_after_success(options: Mapping[str, Any]) -> bool:
    return not _AFTER_SUCCESS.isdisjoint(options)


def sends_after_errors(options: Mapping[str, Any]) -> bool:
    return not _AFTER_ERRORS.isdisjoint(options)


class Sender:
    """Sends them for one worker."""

    def __init__(self, broker: RedisBroker) -> None:
        self._broker = broker
        self._closed = threading.Event()

    def close(self) -> None:
        """The worker ends: what Redis could not be told by now is not waited for."""
        self._closed.set()

    def send_success(self, run: Run, middleware: Any, result: Any) -> None:
        """By dramatiq's own ``middleware``. What is not sent on is an error of this job: others wait for it."""
        options = run.envelope.options
        calls = type(middleware) is Callbacks and (run.plan.has_callbacks or "on_success" in options)
        if calls or (type(middleware) is Pipelines and "pipe_target" in options):
            self._until_told(run, lambda: middleware.after_process_message(self._broker, run, result=result))

    def send_failure(self, run: Run) -> None:
        error = run.error
        assert error is not None
        self._send_once(run, "on_failure", {"type": type(error).__name__, "message": text_of(error)})

    def send_exhausted(self, run: Run) -> None:
        most = without_end(run.envelope.options.get("max_retries", run.plan.policy.max_retries))
        self._send_once(run, "on_retry_exhausted", {"retries": run.attempt - 1, "max_retries": most})

    def _send_once(self, run: Run, option: str, told: dict[str, Any]) -> None:
        name = self._believed(run, option) or run.plan.options.get(option)
        if isinstance(name, str) and name and option not in run.sent:
            run.sent |= {option}
            actor = self._broker.get_actor(name)
            self._until_told(run, lambda: actor.send(run.message.asdict(), told))

    def _believed(self, run: Run, option: str) -> str | None:
        """The task that the job names, but no encrypted one where it was not seen that the job is ours."""
        name = run.envelope.options.get(option)
        if not isinstance(name, str):
            return None
        if run.seal is None and getattr(self._broker.actors.get(name), "encrypt", False) is True:
            log.warning(
                "job=%s: its %s, %r, is not told: that is encrypted, and the job was not opened", run.id, option, name
            )
            return None
        return name

    def _until_told(self, run: Run, tell: Callable[[], object]) -> None:
        """Through an outage of Redis: work that is done is no dead letter for that. In a thread that may wait.

        What never began is refused by the loop itself, which may not.
        """
        while True:
            try:
                tell()
                return
            except RedisUnavailable as error:
                is_outage = not is_refusal(error) and not lacks_right(error)
                if not is_outage or not run.started or self._closed.wait(_AGAIN_SECONDS):
                    raise
