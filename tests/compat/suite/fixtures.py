"""Takes the place of ``tests/conftest.py``: dramatiq's fixtures on Fourlane's broker and the worker under test."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.middleware import Middleware
from dramatiq.rate_limits import backends as rate_limits
from dramatiq.results import backends as results

import fourlane

from .common import worker
from .loop_worker import LoopWorker

logging.basicConfig(level=logging.INFO)
URL = os.environ["REDIS_URL"]
LONGEST_JOIN_MS = 30_000


def begin_workers() -> None:
    for waiting in list(LoopWorker.begun):
        waiting.begin()


class Failures(Middleware):
    """Notes how messages failed for good. Errors themselves are not kept: some tests ask whether anybody does."""

    def __init__(self) -> None:
        self.noted: list[tuple[type[BaseException], tuple[Any, ...]]] = []

    def before_nack(self, broker: Any, message: Any) -> None:
        error = message._exception
        self.noted.append((Exception, ("failed",)) if error is None else (type(error), error.args))


class Broker(fourlane.RedisBroker):
    """What the tests ask of a StubBroker, on Redis."""

    def __init__(self, *, fail_fast: bool) -> None:
        super().__init__(url=URL)
        self.fail_fast = fail_fast
        self.failures = Failures()
        self.add_middleware(self.failures)

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        begin_workers()
        return super().enqueue(message, delay=delay)

    def join(self, queue_name: str, *, fail_fast: bool | None = None, **options: Any) -> None:
        begin_workers()
        super().join(queue_name, **{"timeout": LONGEST_JOIN_MS, **options})
        if self.fail_fast if fail_fast is None else fail_fast:
            for kind, args in self.failures.noted:
                raise kind(*args)


@pytest.fixture(autouse=True)
def empty_redis() -> Iterator[None]:
    with redis.Redis.from_url(URL) as client:
        client.flushdb()
        yield


@contextmanager
def made(*, fail_fast: bool) -> Iterator[Broker]:
    broker = Broker(fail_fast=fail_fast)
    broker.emit_after("process_boot")
    dramatiq.set_broker(broker)
    yield broker
    broker.close()


@pytest.fixture
def stub_broker() -> Iterator[Broker]:
    with made(fail_fast=True) as broker:
        yield broker


@pytest.fixture
def redis_broker() -> Iterator[Broker]:
    with made(fail_fast=False) as broker:
        yield broker


@pytest.fixture
def stub_worker(stub_broker: Broker) -> Iterator[Any]:
    with worker(stub_broker, worker_timeout=100, worker_threads=32) as started:
        yield started


@pytest.fixture
def redis_worker(redis_broker: Broker) -> Iterator[Any]:
    with worker(redis_broker, worker_threads=32) as started:
        yield started


@pytest.fixture
def info_logging() -> Iterator[None]:
    logging.getLogger().setLevel(logging.INFO)
    yield
    logging.getLogger().setLevel(logging.DEBUG)


@pytest.fixture
def start_cli() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def run(module: str, *, extra_args: list[str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        options.setdefault("bufsize", 0)
        process = subprocess.Popen([sys.executable, "-m", "dramatiq", module, *(extra_args or [])], **options)
        started.append(process)
        return process

    yield run
    for process in started:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def rate_limiter_backends() -> dict[str, Any]:
    return {"redis": rate_limits.RedisBackend(url=URL), "stub": rate_limits.StubBackend()}


@pytest.fixture(params=["redis", "stub"])
def rate_limiter_backend(request: pytest.FixtureRequest, rate_limiter_backends: dict[str, Any]) -> Any:
    return rate_limiter_backends[request.param]


@pytest.fixture
def redis_result_backend() -> Any:
    return results.RedisBackend(url=URL)


@pytest.fixture
def result_backends(redis_result_backend: Any) -> dict[str, Any]:
    return {"redis": redis_result_backend, "stub": results.StubBackend()}


@pytest.fixture(params=["redis", "stub"])
def result_backend(request: pytest.FixtureRequest, result_backends: dict[str, Any]) -> Any:
    return result_backends[request.param]
