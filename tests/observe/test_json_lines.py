"""Every program in staging says all in the platform's JSON, from its first line to its last."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.command import Command
from tests.command import command as command

FIELDS = ["timestamp", "level", "service", "trace_id", "user_id", "message", "metadata"]
TASKS = """
import logging
import warnings
import threading
import fourlane

def elsewhere():
    raise LookupError("nobody caught this, password=hunter2Zq")

@fourlane.task(service="mail", max_retries=0)
def fail():
    logging.getLogger("mine").warning("in the job, pwd=hunter2Zq")
    warnings.warn("of Python")
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    raise ValueError("token=hunter2Zq")

@fourlane.task(service="images", max_retries=0)
async def resize():
    logging.getLogger("mine").warning("in the other job")
    raise ValueError("again")
"""
Read = Callable[[subprocess.Popen[str], str], list[dict[str, Any]]]


@pytest.fixture
def staging(command: Command) -> Command:
    command.env |= {"FOURLANE_ENVIRONMENT": "staging", "FOURLANE_SERVICE": "web"}
    return command


def lines(text: Iterator[str] | list[str]) -> Iterator[dict[str, Any]]:
    for line in text:
        read = json.loads(line)
        assert list(read) == FIELDS, line
        assert "hunter2Zq" not in line
        yield read


def until(process: subprocess.Popen[str], words: str) -> list[dict[str, Any]]:
    """All lines up to the one with these words."""
    assert process.stderr is not None
    found = []
    for line in lines(process.stderr):
        found.append(line)
        if words in line["message"]:
            return found
    raise AssertionError([line["message"] for line in found])


def ended(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    rest = [*lines(process.stderr)]
    assert process.wait(30) == 0
    return rest


def test_a_worker_of_two_services(staging: Command) -> None:
    module = staging.module("shop", TASKS)
    process = staging.start("worker", module, stderr=subprocess.PIPE, text=True)
    first = until(process, "ready:")
    assert first[0]["message"].startswith("redis: ")
    assert {line["service"] for line in first} == {"web"}
    assert staging("enqueue", "--module", module, "fail").returncode == 0
    of_mail = until(process, "dead job=")
    assert staging("enqueue", "--module", module, "resize").returncode == 0
    of_images = until(process, "dead job=")
    for found, service in ((of_mail, "mail"), (of_images, "images")):
        assert {line["service"] for line in found} == {service}, found
        assert all(line["trace_id"] and line["metadata"]["job"] for line in found)
    said = " ".join(line["message"] for line in of_mail)
    assert "UserWarning: of Python" in said
    assert "uncaught LookupError" in said
    assert {line["service"] for line in ended(process)} == {"web"}


@pytest.mark.parametrize(("words", "ready"), [(["relay"], "ready: relaying"), (["scheduler"], "is up")])
def test_programs_without_jobs(staging: Command, words: list[str], ready: str) -> None:
    if words == ["relay"]:
        assert staging("db", "migrate").returncode == 0
    process = staging.start(*words, stderr=subprocess.PIPE, text=True)
    until(process, ready)
    ended(process)


@pytest.mark.parametrize("words", [["worker", "shop"], ["relay"], ["scheduler"], ["dev", "shop"]])
def test_what_is_wrong_at_the_start(staging: Command, words: list[str]) -> None:
    told = staging(*words, FOURLANE_SLOTS="many")
    [line] = lines(told.stderr.splitlines())
    assert (line["level"], line["service"]) == ("ERROR", "web")
    assert line["message"].startswith("FOURLANE_SLOTS: 'many' is not a whole number")
    assert told.returncode == 1
    gone = staging(*words, REDIS_URL="redis://:hunter2Zq@127.0.0.1:1", FOURLANE_START_WAIT_SECONDS="0")
    assert [line["level"] for line in lines(gone.stderr.splitlines())][-1] == "ERROR"
    assert gone.returncode == 1


def test_a_command_answers_in_words_and_logs_in_json(staging: Command) -> None:
    """Also what goes wrong is an answer."""
    told = staging("db", "migrate", DATABASE_URL="postgresql://u:p@127.0.0.1:1/x?connection_limit=1")
    *logged, answer = told.stderr.splitlines()
    assert [line["level"] for line in lines(logged)] == ["WARN"]
    assert answer.startswith("error: database: ")
