"""What is to be seen of AI calls: figures for whoever counts, and a span of each where traces are on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from fourlane.errors import RateLimited
from fourlane.providers.ai import Answer
from fourlane.queues.words import words_of as kept_words_of
from fourlane.tasks.ai.prices import Charge
from fourlane.tasks.context import current_job
from fourlane.telling import Span, tell

__all__ = ["NOBODY", "Seen", "label", "watched", "words_of"]

NOBODY: Final = "-"
"""The tenant of calls that have none."""
_LABEL_CHARACTERS: Final = 100
_NO_ANSWER: Final = Answer()


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

    def tell(self, answer: Answer, charged: Charge) -> None:
        """Take what came back and what it cost."""
        self.answer, self.cost_usd = answer, charged.usd if charged.priced else None
        if self.outcome == "ok":
            self.outcome = answer.outcome


def label(tenant: str | None) -> str:
    """A tenant as a label of figures: one line, not too long."""
    return " ".join((tenant or "").split())[:_LABEL_CHARACTERS] or NOBODY


@contextmanager
def watched(operation: str, full: str, tenant: str | None) -> Iterator[Seen]:
    """Around one call of a model: counts its tokens, cost and time at its end."""
    seen, started = Seen(), time.monotonic()
    with tell.span(f"ai {operation}", {}, judged=True) as span:  # one that has to wait raises, and is no error
        try:
            yield seen
        except RateLimited:
            seen.made, seen.error = False, ""  # it waits, which is no fault
            raise
        finally:
            _say(span, operation, full, tenant, seen)
            if seen.made:
                _count(operation, full, tenant, seen, time.monotonic() - started)


def _count(operation: str, full: str, tenant: str | None, seen: Seen, seconds: float) -> None:
    provider, _, model = full.partition("/")
    whose = (provider, model, label(tenant))
    tell.counted("ai_tokens", (*whose, "in"), seen.answer.usage.input_tokens)
    tell.counted("ai_tokens", (*whose, "out"), seen.answer.usage.output_tokens)
    tell.counted("ai_cost_usd", whose, seen.cost_usd or 0.0)
    job = current_job()
    tell.counted("ai_task_cost_usd", (operation if job is None else job.task,), seen.cost_usd or 0.0)
    tell.timed("ai_call_seconds", (provider, model, seen.outcome), seconds)


def _say(span: Span, operation: str, full: str, tenant: str | None, seen: Seen) -> None:
    provider, _, model = full.partition("/")
    span.say(
        {
            "operation": operation,
            "ai_provider": provider,
            "ai_model": model,
            "ai_input_tokens": seen.answer.usage.input_tokens,
            "ai_output_tokens": seen.answer.usage.output_tokens,
        }
    )
    if seen.cost_usd is not None:
        span.say({"ai_cost_usd": seen.cost_usd})
    if tenant:
        span.say({"organization_id": tenant})
    if seen.error:
        span.fail(seen.error)


def words_of(error: BaseException) -> str:
    """What an error says, in one line, without secrets."""
    return " ".join(kept_words_of(error).split())
