"""The format of log lines."""

from __future__ import annotations

import io
import json
import logging
import re
import timeit
from collections.abc import Iterator

import pytest

from fourlane.observe import ids, logs
from fourlane.tasks.context import running


class FakeRun:
    """As much of a run as a log line asks for."""

    def __init__(self, number: int) -> None:
        self.id = f"job{number}"
        self.attempt = 2
        self.plan = type("Plan", (), {"name": "send"})
        self.service = type("Service", (), {"name": "mail"})
        self.envelope = type("Envelope", (), {"options": {"tenant": f"org{number}", "user_id": "u1"}})


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger without pytest's handlers."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    logger.handlers[:] = []
    yield logger
    logger.handlers[:], logger.level = handlers, level
    running.set(None)


def test_json_in_the_platforms_format(root: logging.Logger) -> None:
    root.handlers.clear()  # pytest has added its own again
    stream = io.StringIO()
    logs.configure(level="DEBUG", json=True, service="billing", stream=stream)
    running.set(FakeRun(1))  # type: ignore[arg-type]
    try:
        raise ValueError("token=abc")
    except ValueError:
        logging.getLogger("mine").critical(
            "half " + chr(0xD800) + " of %s", "a@b.org", extra={"n": 1, "o": object}, exc_info=True
        )
    line = json.loads(stream.getvalue())
    assert (line["level"], line["service"], line["user_id"]) == ("FATAL", "mail", "u1")
    assert line["trace_id"] == f"{ids.trace_id_of('job1', {}):032x}"
    assert line["message"] == "half ? of [email]"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])
    metadata = line["metadata"]
    assert (metadata["job"], metadata["task"], metadata["attempt"], metadata["n"]) == ("job1", "send", 2, 1)
    assert metadata["organization_id"] == "org1"
    assert "token=[redacted]" in metadata["exception"]


def test_the_workers_own_lines_keep_their_words_in_a_terminal(root: logging.Logger) -> None:
    root.handlers.clear()  # pytest has added its own again
    stream = io.StringIO()
    logs.configure(level="INFO", json=False, service="x", stream=stream)
    running.set(FakeRun(1))  # type: ignore[arg-type]
    logging.getLogger("fourlane.worker").warning("retry job=job1 task=send attempt=1")
    logging.getLogger("mine").warning("hello")
    own, mine = stream.getvalue().splitlines()
    assert own.endswith(" WARNING fourlane.worker retry job=job1 task=send attempt=1")
    assert re.search(r"WARNING mine hello \[job=job1 task=send trace=[0-9a-f]{32} tenant=org1\]$", mine)


def test_a_program_that_logs_its_own_way_is_left_alone(root: logging.Logger) -> None:
    root.handlers.clear()  # pytest has added its own again
    own = logging.NullHandler()
    root.addHandler(own)
    logs.configure(level="INFO", json=True, service="x")
    assert root.handlers == [own]


def test_a_line_below_the_level_costs_a_look(root: logging.Logger) -> None:
    root.handlers.clear()  # pytest has added its own again
    logs.configure(level="INFO", json=True, service="shop", stream=io.StringIO())
    running.set(FakeRun(1))  # type: ignore[arg-type]
    mine = logging.getLogger("mine")
    off = min(timeit.repeat(lambda: mine.debug("quiet %s", 1), number=1_000, repeat=5))
    on = min(timeit.repeat(lambda: mine.info("loud %s", 1), number=1_000, repeat=5))
    assert off * 10 < on
