"""What is to be seen of AI calls: figures for whoever counts, and a span of each where traces are on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from fourlane.errors import RateLimited
from fourlane.meter import meter, record
from fourlane.providers.ai import Answer
from fourlane.tasks.context import current_job

__all__ = ["NOBODY", "Seen", "label", "watched"]

NOBODY: Final = "-"
"""The tenant of calls that have none."""
_LABEL_CHARACTERS: Final = 100
_NO_ANSWER: Final = Answer("")


@dataclass(slots=True)
class Seen:
    """What a call turned out to be; the one who makes it fills it in.

    Parameters:
      cost_usd: None where no price is known.
      error: why it failed, or was refused; empty when it did not.
      made: whether anybody was called.
    """

    answer: Answer = _NO_ANSWER
    cost_usd: float | None = None
    error: str = ""
    outcome: str = "ok"
    made: bool = True


def label(tenant: str | None) -> str:
    """A tenant as a label of figures: one line, not too long."""
    return " ".join((tenant or "").split())[:_LABEL_CHARACTERS] or NOBODY


@contextmanager
def watched(operation: str, full: str, tenant: str | None) -> Iterator[Seen]:
    """Around one call of a model: counts its tokens, cost and time at its end."""
    seen, started = Seen(), time.monotonic()
    with _span(f"ai {operation}") as span:
        try:
            yield seen
        except RateLimited:
            seen.made, seen.error = False, ""  # it waits, which is no fault
            raise
        finally:
            _annotate(span, operation, full, tenant, seen)
            if seen.made:
                _count(operation, full, tenant, seen, time.monotonic() - started)


def _count(operation: str, full: str, tenant: str | None, seen: Seen, seconds: float) -> None:
    provider, _, model = full.partition("/")
    whose = (provider, model, label(tenant))
    meter.count("ai_tokens", (*whose, "in"), seen.answer.input_tokens)
    meter.count("ai_tokens", (*whose, "out"), seen.answer.output_tokens)
    meter.count("ai_cost_usd", whose, seen.cost_usd or 0.0)
    job = current_job()
    meter.count("ai_task_cost_usd", (operation if job is None else job.task,), seen.cost_usd or 0.0)
    record("ai_call_seconds", (provider, model, seen.outcome), seconds)


@contextmanager
def _span(name: str) -> Iterator[Any]:
    """None where no traces are made: then OpenTelemetry is not even imported."""
    if "opentelemetry.sdk.trace" not in sys.modules:
        yield None
        return
    from opentelemetry import trace

    # Not every error is one: a call that has to wait is none.
    tracer = trace.get_tracer("fourlane.ai")
    with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
        yield span


def _annotate(span: Any, operation: str, full: str, tenant: str | None, seen: Seen) -> None:
    if span is None:
        return
    from opentelemetry.trace import Status, StatusCode

    provider, _, model = full.partition("/")
    span.set_attributes(
        {
            "operation": operation,
            "ai_provider": provider,
            "ai_model": model,
            "ai_input_tokens": seen.answer.input_tokens,
            "ai_output_tokens": seen.answer.output_tokens,
        }
    )
    if seen.cost_usd is not None:
        span.set_attribute("ai_cost_usd", seen.cost_usd)
    if tenant:
        span.set_attribute("organization_id", tenant)
    if seen.error:
        span.set_status(Status(StatusCode.ERROR, seen.error))
