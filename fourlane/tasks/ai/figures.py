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
from fourlane.tasks.ai.config import configured
from fourlane.tasks.ai.money.prices import Charge
from fourlane.tasks.ai.whose import account_name
from fourlane.tasks.context import current_job
from fourlane.tasks.task import default_broker
from fourlane.telling import Observer, Span, tell

__all__ = ["Seen", "label", "tokens_a_second", "watched", "words_of"]

_LABEL_CHARACTERS: Final = 100
_MOST_TENANTS: Final = 100
_MOST_TASKS: Final = 200
_LEAST_SECONDS: Final = 0.05  # of what came at once no rate can be told
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
    return account_name(" ".join((tenant or "").split())[:_LABEL_CHARACTERS])


@contextmanager
def watched(operation: str, full: str, tenant: str | None) -> Iterator[Seen]:
    """Around one call of a model: counts its tokens, cost and time at its end."""
    seen, started = Seen(), time.monotonic()
    with tell.span(f"ai {operation}", {}, judged=True) as span:  # one that has to wait raises, and is no error
        try:
            yield seen
        except RateLimited:
            seen.made, seen.error = bool(seen.cost_usd), ""  # it waits, which is no fault
            raise
        finally:
            seconds = time.monotonic() - started
            _say(span, operation, full, tenant, seen, seconds)
            if seen.made:
                _count(operation, full, tenant, seen, seconds)


def _count(operation: str, full: str, tenant: str | None, seen: Seen, seconds: float) -> None:
    provider, _, model = full.partition("/")
    whose, usage, job = (provider, model, label(tenant)), seen.answer.usage, current_job()
    task = operation if job is None else job.task
    tell.counted("ai_calls", (*whose, seen.outcome))
    tell.counted("ai_task_calls", (task, seen.outcome))
    tell.counted("ai_tokens", (*whose, "in"), usage.input_tokens)
    tell.counted("ai_tokens", (*whose, "cached"), usage.cache_read_tokens)
    tell.counted("ai_tokens", (*whose, "out"), usage.output_tokens)
    tell.counted("ai_tokens", (*whose, "reasoning"), usage.reasoning_tokens)
    tell.counted("ai_cost_usd", whose, seen.cost_usd or 0.0)
    tell.counted("ai_task_cost_usd", (task,), seen.cost_usd or 0.0)
    tell.timed("ai_call_seconds", (provider, model, seen.outcome), seconds)
    if seen.answer.first_ms:
        tell.timed("ai_first_seconds", (provider, model), seen.answer.first_ms / 1000)
    if rate := tokens_a_second(seen.answer, seconds):
        tell.timed("ai_tokens_a_second", (provider, model), rate)


def tokens_a_second(answer: Answer, seconds: float) -> float:
    """How fast an answer was written, of a call that took so long; 0.0 where that cannot be told."""
    written = seconds - answer.first_ms / 1000
    is_streamed = answer.first_ms > 0 and written >= _LEAST_SECONDS
    return answer.usage.output_tokens / written if is_streamed else 0.0


def _say(span: Span, operation: str, full: str, tenant: str | None, seen: Seen, seconds: float) -> None:
    provider, _, model = full.partition("/")
    usage = seen.answer.usage
    span.say(
        {
            "operation": operation,
            "ai_provider": provider,
            "ai_model": model,
            "ai_outcome": seen.outcome,
            "ai_finish": seen.answer.finish,
            "ai_input_tokens": usage.input_tokens,
            "ai_cached_tokens": usage.cache_read_tokens,
            "ai_output_tokens": usage.output_tokens,
            "ai_reasoning_tokens": usage.reasoning_tokens,
        }
    )
    if seen.answer.first_ms:
        span.say({"ai_first_ms": seen.answer.first_ms})
    if rate := tokens_a_second(seen.answer, seconds):
        span.say({"ai_tokens_a_second": round(rate, 1)})
    if seen.cost_usd is not None:
        span.say({"ai_cost_usd": seen.cost_usd})
    if tenant:
        span.say({"organization_id": tenant})
    if seen.error:
        span.fail(seen.error)


def words_of(error: BaseException) -> str:
    """What an error says, in one line, without secrets."""
    return " ".join(kept_words_of(error).split())


class _FromZero(Observer):
    """Counters that rules look at are there from a worker's start on: of one that begins with 1, nobody sees a rise."""

    def resting(self, now: float) -> float | None:
        """Once, when a worker has nothing to do yet; who hands figures over is told again."""
        tell.remove(self)
        if "counted" not in tell.heard:
            return None
        config = configured()
        for task in sorted(default_broker().actors)[:_MOST_TASKS]:
            tell.counted("ai_task_cost_usd", (task,), 0)
        for tenant in [*config.budgets_usd][:_MOST_TENANTS]:
            for what in ("warned", "refused", "postponed"):
                tell.counted("ai_budget", (label(tenant), what), 0)
        for full in config.asked():
            provider, _, model = full.partition("/")
            for why in ("down", "limited"):
                tell.counted("provider_refused", (provider, model, why), 0)
        return now


tell.add(_FromZero())
