"""What Redis's errors and waits mean, in each of its versions."""

from __future__ import annotations

import time

import pytest
import redis.exceptions as failures

from fourlane.errors import RedisUnavailable
from fourlane.queues.broker import RedisBroker
from fourlane.queues.redis import (
    SOCKET_TIMEOUT_SECONDS,
    blocks_for,
    is_full,
    is_passing,
    is_refusal,
    lacks_right,
    unavailable,
)
from fourlane.queues.redis.failures import of


def told(error: Exception) -> RedisUnavailable:
    """As a caller sees it."""
    error = of(error)
    ours = unavailable(error)
    ours.__cause__ = error
    return ours


# Redis 6.2 hides the word inside the text of a script's error; redis-py cuts off the word of the others.
OLD = "Error running script (call to f_d47e): @user_script:12: @user_script: 12: -{}"


@pytest.mark.parametrize(
    ("error", "passing", "refusal", "full", "right"),
    [
        (failures.ReadOnlyError("You can't write", status_code="READONLY"), True, False, False, False),
        (failures.ResponseError(OLD.format("READONLY You can't write")), True, False, False, False),
        (failures.BusyLoadingError("Redis is loading", status_code="LOADING"), True, False, False, False),
        (failures.ResponseError("BUSY Redis is busy running a script"), True, False, False, False),
        (failures.ResponseError("UNBLOCKED force unblock"), True, False, False, False),
        (failures.ConnectionError("gone"), True, False, False, False),
        (failures.OutOfMemoryError("command not allowed", status_code="OOM"), False, False, True, False),
        (failures.ResponseError(OLD.format("OOM command not allowed")), False, False, True, False),
        (failures.ResponseError("MISCONF Redis is configured to save"), False, False, False, False),
        (failures.NoPermissionError("no permissions", status_code="NOPERM"), False, False, False, True),
        (failures.ResponseError("The user executing the script can't run this"), False, False, False, False),
        (failures.AuthenticationError("invalid", status_code="WRONGPASS"), False, False, False, False),
        (failures.ResponseError("WRONGTYPE Operation against a key"), False, True, False, False),
    ],
)
def test_what_an_error_means(error: Exception, passing: bool, refusal: bool, full: bool, right: bool) -> None:
    ours = told(error)
    assert (is_passing(ours), is_refusal(ours), is_full(ours), lacks_right(ours)) == (passing, refusal, full, right)


def test_a_hint_for_each() -> None:
    assert "out of memory" in str(told(failures.OutOfMemoryError("x", status_code="OOM")))
    assert "is a replica" in str(told(failures.ResponseError(OLD.format("READONLY no"))))
    assert "user's rights" in str(told(failures.ResponseError("ACL failure in script: no")))
    assert "is the server running" in str(told(failures.ConnectionError("gone")))


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.0001, 0.001, 0.0016, 0.004])
def test_no_wait_is_for_ever_however_short(broker: RedisBroker, namespace: str, seconds: float) -> None:
    """0 is for ever, and Redis 6.2 makes 0 of 0.001."""
    began = time.monotonic()
    connector, key = broker.store.connector, namespace.encode()
    assert connector.command(key, "BZPOPMIN", key, blocks_for(seconds)) is None
    assert connector.command(key, "BLMOVE", key, key, "LEFT", "LEFT", blocks_for(seconds)) is None
    assert time.monotonic() - began < SOCKET_TIMEOUT_SECONDS
