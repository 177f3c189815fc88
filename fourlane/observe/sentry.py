"""Errors of jobs, reported to Sentry: once for each job, on its last attempt, unless each attempt is asked for.

One issue for each task and kind of error. Requests, local variables and arguments are not sent; texts are redacted.
Performance is off unless asked: traces do that (traces.py). Jobs that schedules made check in (monitors.py).
"""

from __future__ import annotations

import threading
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final

import sentry_sdk
from sentry_sdk import scope as scopes
from sentry_sdk.integrations.logging import LoggingIntegration

from fourlane.errors import Foreseen
from fourlane.names import Queue, Tier
from fourlane.observe import ids
from fourlane.observe.monitors import Monitors
from fourlane.outcome import Dead, Outcome, Retry
from fourlane.redact import redact
from fourlane.tasks.context import running
from fourlane.telling import Ends, Observer

if TYPE_CHECKING:
    from fourlane.observe.setup import Observe

__all__ = ["Reports", "begin"]

_CLOSE_SECONDS: Final = 2.0


class Reports(Observer):
    """One for a worker process."""

    def __init__(self, environment: str, every_attempt: bool) -> None:
        self.environment = environment
        self.every_attempt = every_attempt
        self.monitors = Monitors()

    def began(self, run: Any) -> None:
        if "schedule" in run.envelope.options:
            self.monitors.began(run)

    def failed(self, run: Any, error: BaseException, outcome: Outcome) -> None:
        """Report, where the error happened, so that what the job told Sentry goes along."""
        if not self._is_reported(run, error, outcome):
            return
        queue = Queue(run.service.name, Tier(int(run.leased.entry[0])))
        options = run.envelope.options
        with sentry_sdk.new_scope() as scope:
            scope.fingerprint = ["fourlane", run.plan.name, type(error).__module__, type(error).__qualname__]
            scope.set_transaction_name(run.plan.name, source="task")
            scope.set_tags(
                {
                    "task": run.plan.name,
                    "queue": queue.name(self.environment),
                    "tier": queue.tier.word,
                    "service": queue.service,
                    "attempt": run.attempt,
                    "job_id": run.id,
                    "trace_id": f"{ids.trace_id_of(run.id, options):032x}",
                }
            )
            if options.get("tenant"):
                scope.set_tag("organization_id", str(options["tenant"]))
            if options.get("user_id"):
                scope.set_user({"id": str(options["user_id"])})
            event, hint = sentry_sdk.utils.event_from_exception(
                error,
                client_options=sentry_sdk.get_client().options,  # without them it sends local variables
                mechanism={"type": "fourlane", "handled": False},
            )
            sentry_sdk.capture_event(event, hint=hint)

    def _is_reported(self, run: Any, error: BaseException, outcome: Outcome) -> bool:
        if run.expected or isinstance(error, Foreseen):
            return False
        return isinstance(outcome, Dead) or (self.every_attempt and isinstance(outcome, Retry))

    def turned(self, ends: Ends) -> None:
        for run, outcome in ends.special:
            if "schedule" in run.envelope.options:
                self.monitors.ended(run, outcome)

    def closing(self) -> None:
        """Send what waits, in no more than two seconds."""
        thread = threading.Thread(target=self._flush, name="fourlane-flush", daemon=True)
        thread.start()
        thread.join(_CLOSE_SECONDS)

    def _flush(self) -> None:
        self.monitors.flush(_CLOSE_SECONDS)
        sentry_sdk.flush(_CLOSE_SECONDS)


class _ScopeOfJob:
    """In place of a ContextVar of Sentry's: what a job put there is not found by the next one.

    A slot's thread runs job after job in one context. To empty it before each would cost every job; so it costs only
    those that tell Sentry something.
    """

    def __init__(self, name: str) -> None:
        self._var: ContextVar[tuple[Any, Any]] = ContextVar(name, default=(None, None))

    def get(self) -> Any:
        run, scope = self._var.get()
        return scope if run is running.get() else None

    def set(self, scope: Any) -> Token[tuple[Any, Any]]:
        return self._var.set((running.get(), scope))

    def reset(self, token: Token[tuple[Any, Any]]) -> None:
        self._var.reset(token)


_IDENTIFYING: Final = ("event_id", "fingerprint", "timestamp", "start_timestamp", "type", "sdk", "release")
_TAGS: Final = ("task", "queue", "tier", "service", "attempt", "job_id", "trace_id", "organization_id")
_OF_TRACE: Final = ("trace_id", "span_id", "parent_span_id", "start_timestamp", "timestamp", "same_process_as_parent")


def _before_send(event: Any, hint: Any) -> Any:
    """Texts without secrets; what identifies the report, or the transaction, stays."""
    shown = redact(event) | {key: event[key] for key in _IDENTIFYING if key in event}
    trace = (event.get("contexts") or {}).get("trace")
    if trace:
        shown["contexts"]["trace"] |= {key: trace[key] for key in _OF_TRACE if key in trace}
    if "spans" in event:
        # One by one: as parts of the whole they would be cut where they are deep.
        shown["spans"] = [
            redact(span) | {key: span[key] for key in _OF_TRACE if key in span} for span in event["spans"]
        ]
    tags = event.get("tags") or {}
    shown["tags"] = redact(tags) | {tag: tags[tag] for tag in _TAGS if tag in tags}
    if "user" in event:
        shown["user"] = {"id": event["user"]["id"]} if "id" in (event["user"] or {}) else {}
    return shown


def begin(observe: Observe) -> Reports:
    """Start Sentry's client."""
    sentry_sdk.init(
        dsn=observe.sentry_dsn,
        environment=observe.environment,
        release=observe.sentry_release or None,  # None: SENTRY_RELEASE, or what git says
        sample_rate=observe.sentry_percent / 100,
        traces_sample_rate=observe.sentry_traces_percent / 100 or None,
        server_name=None,
        default_integrations=True,
        auto_enabling_integrations=False,
        integrations=[LoggingIntegration(event_level=None)],  # one report for a job, not one for each line
        include_local_variables=False,
        send_default_pii=False,
        max_request_body_size="never",
        before_send=_before_send,
        before_send_transaction=_before_send,
    )
    scopes._isolation_scope = _ScopeOfJob("isolation_scope")
    scopes._current_scope = _ScopeOfJob("current_scope")
    return Reports(observe.environment, observe.sentry_every_attempt)
