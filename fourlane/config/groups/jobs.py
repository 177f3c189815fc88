"""Jobs: what tasks take that do not say otherwise, what is kept of jobs, and the limits of queues."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from fourlane.config.groups.redis import RedisSettings
from fourlane.config.values import Item, Milliseconds, Positive, ZeroOrMore, at_least, between, json_object
from fourlane.names import parse_queue

__all__ = ["JobSettings", "QueueLimit"]

Size = Annotated[int, between(1_024, 512 * 1_048_576)]
"""Of a value in Redis, which takes no larger one."""


class QueueLimit(Item):
    """How many jobs of one queue may start in a time, and how many may run at once."""

    example: ClassVar = '{"rate": 10}'

    rate: Positive | None = None
    """Jobs that may start in ``per_ms``; None: any number."""
    per_ms: Milliseconds = 1_000
    burst: Positive | None = None
    """Jobs that may start together after a quiet time; None: left to the limiter."""
    concurrency: Positive | None = None
    """Jobs that may run at once, over all workers; None: any number."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.rate is None and (self.concurrency is None or self.burst is not None):
            raise ValueError("has no rate; give one, or a concurrency alone")
        return self


def _full_name(queue: str, info: ValidationInfo) -> str:
    environment = info.data.get("environment")
    # A wrong environment is a fault of its own; the queue cannot be judged then.
    return queue if environment is None else parse_queue(queue, environment).name(environment)


def _each_once(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    limits = validate(value)
    if len(limits) < len(value):
        raise ValueError("names a queue twice, in full and without its environment; keep one of them")
    return limits


Limits = Annotated[
    dict[Annotated[str, AfterValidator(_full_name)], QueueLimit],
    WrapValidator(_each_once),
    json_object('write {"jobs.high.SERVICE": {"rate": 10, "per_ms": 1000}}'),
]


class JobSettings(RedisSettings):
    max_retries: ZeroOrMore = 5
    """Runs after the first one, before the job becomes a dead letter."""
    min_backoff_ms: Milliseconds = 1_000
    max_backoff_ms: Milliseconds = 3_600_000
    timeout_ms: Milliseconds = 600_000
    """A running job is interrupted after this."""
    hard_timeout_ms: Milliseconds | None = None
    """The process of a running job is killed after this; None: never."""
    crash_limit: Positive = 3
    """A job that took so many processes down becomes a dead letter."""
    result_ttl_ms: Annotated[int, between(0, 315_360_000_000)] = 0
    """How long results are kept; 0: not at all."""
    max_body_bytes: Size = 1_048_576
    outbox_days_ahead: Annotated[int, at_least(1, bound=3_650)] = 366
    """How far ahead a row of the outbox may be due: such a job stays in Redis all that time."""
    max_result_bytes: Size = 1_048_576
    """The size limit of a result that is kept."""
    dead_ttl_days: Annotated[int, at_least(1, bound=3_650)] = 30
    dead_max: Positive = 100_000
    """Dead letters kept for a service; the oldest go first."""
    limits: Limits = Field(default_factory=dict)
    """Limits by the queue's full name; in the variable, a JSON object."""
