"""Takes the place of ``tests/common.py``: the worker under test, and what these tests are skipped for."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dramatiq
import pika
import pytest
from dramatiq.threading import is_gevent_active

from .loop_worker import LoopWorker

Worker: Any = LoopWorker if os.environ["COMPAT_WORKER"] == "fourlane" else dramatiq.Worker


@contextmanager
def worker(*args: Any, **kwargs: Any) -> Iterator[Any]:
    made = Worker(*args, **kwargs)
    made.start()
    try:
        yield made
    finally:
        made.stop()


skip_in_ci = pytest.mark.skipif(False, reason="this is not dramatiq's CI")
skip_on_windows = pytest.mark.skipif(platform.system() == "Windows", reason="Windows")
skip_on_pypy = pytest.mark.skipif(platform.python_implementation() == "PyPy", reason="PyPy")
skip_with_gevent = pytest.mark.skipif(is_gevent_active(), reason="with gevent")
skip_without_gevent = pytest.mark.skipif(not is_gevent_active(), reason="without gevent")
skip_unless_rabbit_mq = pytest.mark.skip(reason="of RabbitMQ")
RABBITMQ_CREDENTIALS = pika.credentials.PlainCredentials("guest", "guest")
