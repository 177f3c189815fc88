"""Errors of jobs, reported to Sentry: once for each job, on its last attempt, unless each attempt is asked for.

One issue for each task and kind of error. Jobs that a schedule made check in with Sentry's cron monitors. Requests,
local variables and arguments are not sent; texts are redacted. Performance is off: traces do that (traces.py).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import sentry_sdk
from sentry_sdk.crons import capture_checkin
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.scope import _isolation_scope

from fourlane.errors import Steering
from fourlane.names import Queue, Tier
from fourlane.observe import ids
from fourlane.observe.redact import redact
from fourlane.outcome import Cancel, Dead, Done, Outcome, Result, Retry

if TYPE_CHECKING:
    from fourlane.observe.begin import Observe

__all__ = ["Reports", "begin"]

_CLOSE_SECONDS: Final = 2.0
_CHECKED_IN: Final[dict[type, str]] = {Done: "ok", Result: "ok", Dead: "error", Cancel: "error"}


class Reports:
    """One for a worker process."""

    def __init__(self, environment: str, every_attempt: bool) -> None:
        self.environment = environment
        self.every_attempt = every_attempt

    def began(self, run: Any) -> None:
        """Nothing that the job before it told Sentry belongs to this one; a scope is made when one is wanted."""
        _isolation_scope.set(None)

    def failed(self, run: Any, error: BaseException, outcome: Outcome) -> None:
        """Report, where the error happened, so that what the job told Sentry goes along."""
        if not self._is_reported(run, error, outcome):
            return
        queue = Queue(run.lane.service, Tier(int(run.leased.entry[0])))
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
            hint = {"mechanism": {"type": "fourlane", "handled": False}}
            event, found = sentry_sdk.utils.event_from_exception(error, mechanism=hint["mechanism"])
            sentry_sdk.capture_event(event, hint=found)

    def _is_reported(self, run: Any, error: BaseException, outcome: Outcome) -> bool:
        throws = run.plan.policy.throws
        if isinstance(error, Steering) or (throws and isinstance(error, throws)):
            return False
        return isinstance(outcome, Dead) or (self.every_attempt and isinstance(outcome, Retry))

    def ended(self, ended: list[tuple[Any, Outcome]]) -> None:
        """Check in the jobs that schedules made."""
        for run, outcome in ended:
            schedule = run.envelope.options.get("schedule") if run.envelope.options else None
            status = _CHECKED_IN.get(type(outcome))
            if schedule and status:
                capture_checkin(
                    monitor_slug=schedule,
                    status=status,
                    duration=run.ended_at - run.started if run.started else None,
                    monitor_config=None,
                )

    def close(self) -> None:
        """Send what waits, in no more than two seconds."""
        thread = threading.Thread(target=sentry_sdk.flush, args=(_CLOSE_SECONDS,), name="fourlane-flush", daemon=True)
        thread.start()
        thread.join(_CLOSE_SECONDS)


def _before_send(event: Any, hint: Any) -> Any:
    """Texts without secrets; what identifies the report stays."""
    kept = {
        key: event[key] for key in ("event_id", "fingerprint", "timestamp", "sdk", "user", "release") if key in event
    }
    tags = event.get("tags") or {}
    return redact(event) | kept | {"tags": tags}


def begin(observe: Observe) -> Reports:
    """Start Sentry's client. Raises SettingsError: the DSN is none."""
    from fourlane.errors import SettingsError

    try:
        sentry_sdk.init(
            dsn=observe.sentry_dsn,
            environment=observe.environment,
            server_name=None,
            default_integrations=True,
            auto_enabling_integrations=False,
            integrations=[LoggingIntegration(event_level=None)],  # one report for a job, not one for each line
            include_local_variables=False,
            send_default_pii=False,
            max_request_body_size="never",
            before_send=_before_send,
        )
    except sentry_sdk.utils.BadDsn:
        raise SettingsError("SENTRY_DSN: is no DSN; copy it from the project's client keys") from None
    return Reports(observe.environment, observe.sentry_every_attempt)
