"""Redis away, as dramatiq knows it: what its Worker and programs made for it catch is dramatiq's ConnectionClosed."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from dramatiq.errors import ConnectionClosed

from fourlane.errors import RedisUnavailable

__all__ = ["BrokerUnavailable", "closed_to_dramatiq"]

P = ParamSpec("P")
R = TypeVar("R")


class BrokerUnavailable(RedisUnavailable, ConnectionClosed):
    """Redis cannot be reached, or it refuses what we ask: raised where dramatiq's API is called."""

    def __init__(self, message: str) -> None:
        super().__init__(message)  # type: ignore[no-untyped-call]


def closed_to_dramatiq(method: Callable[P, R]) -> Callable[P, R]:
    """For what dramatiq calls, or programs as they call dramatiq: its RedisUnavailable is a ConnectionClosed too."""

    @wraps(method)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except RedisUnavailable as error:
            if isinstance(error, BrokerUnavailable):
                raise
            raise BrokerUnavailable(str(error)).with_traceback(error.__traceback__) from error.__cause__

    return called
