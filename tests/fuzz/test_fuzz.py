"""Whatever comes in from outside: no exception that is not ours."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import click
import msgspec
import pytest
from hypothesis import strategies as st
from msgspec.structs import replace

import fourlane
from fourlane import codec, crypto
from fourlane.cli import main
from fourlane.config import load_settings
from fourlane.config.settings import variables
from fourlane.errors import (
    FourlaneError,
    InvalidArguments,
    InvalidEvent,
    InvalidName,
    JobTooLarge,
    SettingsError,
    UnreadableJob,
)
from fourlane.events.catalogue import Handler
from fourlane.events.envelope import Event, wire
from fourlane.events.handlers import accepting, job_id
from fourlane.events.names import parse_event
from fourlane.events.reading import read
from fourlane.later import later_tasks
from fourlane.options import fault_of
from fourlane.outbox import written
from fourlane.queues.broker import RedisBroker
from tests.fuzz.fuzzing import fuzzed, json_texts, mostly, odd_texts, values

# Jobs -----------------------------------------------------------------------------------------------------------

BODIES = json_texts(st.tuples(odd_texts, values, values, values, values) | st.lists(values, max_size=7) | values)


@fuzzed(BODIES)
def test_a_job_s_body_as_it_lies_in_redis(body: bytes) -> None:
    try:
        envelope = codec.decode(body)
    except UnreadableJob:
        return
    codec.is_sealed(envelope)
    later_tasks(envelope.options)
    fault_of(envelope.options)


ANYTHING = values | st.binary(max_size=5) | st.dates() | st.tuples(st.sets(st.integers(), max_size=3), values)


@fuzzed(odd_texts, st.lists(ANYTHING, max_size=3), st.dictionaries(odd_texts | st.integers(), ANYTHING, max_size=3))
def test_what_a_program_sends(task: str, args: list[Any], kwargs: dict[Any, Any]) -> None:
    try:
        body = codec.encode(task, args, kwargs, enqueued_ms=1)
    except (InvalidArguments, JobTooLarge):
        return
    found = codec.decode(body)
    assert (found.task, found.kwargs) == (task, kwargs)


MOMENTS = odd_texts | st.floats() | st.datetimes().map(str) | st.none() | st.integers()
ROWS = st.fixed_dictionaries(
    {
        "id": mostly("6f1d3f5c-8d2a-4b0e-9f5e-0a1b2c3d4e5f", odd_texts | values),
        "task": mostly("sealed", odd_texts | values),
        "tier": mostly("P1"),
        "args": json_texts(st.lists(values, max_size=2)).map(lambda text: text.decode(errors="surrogateescape"))
        | values,
        "kwargs": json_texts(st.dictionaries(odd_texts, values, max_size=2)).map(lambda t: t.decode(errors="replace")),
        "options": json_texts(st.dictionaries(odd_texts, values, max_size=2)).map(lambda t: t.decode(errors="replace"))
        | st.sampled_from(['{"tenant": "t"}', '{"pipe_target": {}}', '{"on_success": 1}', "{}"]),
        "organization_id": mostly(None, st.uuids().map(str) | odd_texts),
        "created_at": mostly(1.7e12, MOMENTS),
        "run_at": mostly(None, MOMENTS),
    }
)


@pytest.mark.skipif(not hasattr(written, "job_of"), reason="rows are made jobs elsewhere")
@fuzzed(ROWS)
def test_a_row_of_the_outbox(row: dict[str, Any]) -> None:
    keys()
    try:
        made = written.job_of(SimpleNamespace(**row), {"sealed"}, last_ms=2**42)
    except (FourlaneError, ValueError):  # which its relay writes to the row
        return
    codec.decode(made.body)


# Events ---------------------------------------------------------------------------------------------------------

NAME = parse_event("platform.x", "local")
TIMES = st.sampled_from(["2026-11-28T12:00:00Z", "2026-11-28", "1969-12-31T23:59:59.999999999-12:00"]) | odd_texts
ATTRIBUTES = st.fixed_dictionaries(
    {
        "specversion": st.just("1.0"),
        "id": mostly("1"),
        "source": mostly("/s"),
        "type": mostly("local.events.platform.x"),
    },
    optional={
        "time": mostly(None, TIMES | values),
        "deliverat": mostly("2026-11-28T12:00:00Z", TIMES),
        "datacontenttype": mostly("application/json", odd_texts | values),
        "data": values,
        "data_base64": mostly(None, st.sampled_from(["MQ==", "WzFd", "/w==", "IA=="]) | odd_texts),
        "tenant": mostly("acme", odd_texts | values),
        "partitionkey": mostly("k"),
        "traceparent": mostly("t"),
        "tracestate": mostly("s"),
        "dataref": mostly("s3://b/k"),
        "subject": mostly(None),
        "schemaversion": mostly("1"),
        "other": mostly(1, values),
    },
)


@cache
def keys() -> None:
    crypto.configure(crypto.Keyring([crypto.new_key()]))


@cache
def handlers() -> list[Handler]:
    """One whose jobs are plain, and one whose jobs are encrypted. Nobody connects."""
    keys()
    broker = RedisBroker(url="redis://127.0.0.1:1/0")
    made = [fourlane.task(name=f"fuzz {e}", broker=broker, encrypt=e)(lambda given: None) for e in (False, True)]
    return [Handler(NAME, task, "queue", "") for task in made]


@fuzzed(json_texts(ATTRIBUTES), st.integers(0, 2**41))
def test_a_message_of_sqs(body: bytes, sent_ms: int) -> None:
    try:
        received = read(os.fsdecode(body), sent_ms)
        Event.of(received, NAME)
    except InvalidEvent:
        return
    again = read(wire(received), 1)
    assert msgspec.json.decode(again.data) == msgspec.json.decode(received.data)
    assert replace(again, data=received.data) == received, "what is kept of it is read as it was"
    for handler in handlers():
        job_id(received, handler)
        assert accepting(handler, wire(received).encode(), received).body


@fuzzed(odd_texts, odd_texts, odd_texts, values, st.none() | st.datetimes() | st.datetimes(timezones=st.just(UTC)))
def test_an_event_that_a_program_publishes(name: str, key: str, id: str, data: Any, time: datetime | None) -> None:
    from fourlane.events.outgoing import Writer

    writer = Writer(None, "local", "/s", "", 100_000)  # type: ignore[arg-type]
    for event in (name, "platform.x"):
        try:
            sent = writer.write(event, data, trace=("", ""), key=key, id=id, time=time)
        except (InvalidEvent, InvalidName, fourlane.errors.EventTooLarge):
            continue
        assert read(sent.entry["MessageBody"]).partitionkey == key


# Settings and commands ------------------------------------------------------------------------------------------

NAMES = sorted(variables().values())
# What a system hands to a program: no zero byte, and any other.
HANDED = odd_texts.map(lambda text: os.fsdecode(text.replace("\0", "").encode("utf-8", "surrogatepass")[:8_000]))


@fuzzed(st.dictionaries(st.sampled_from(NAMES) | st.sampled_from(["FOURLANE_X", "FOURLANE_"]), HANDED, max_size=2))
def test_settings(given: dict[str, str]) -> None:
    with patch.dict(os.environ, given, clear=True):
        try:
            settings = load_settings()
        except SettingsError:
            return
    settings.describe()


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command, info_name="fourlane")
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from leaves(found, (*path, name))


@cache
def commands() -> list[tuple[tuple[str, ...], click.Command]]:
    return list(leaves(main))


@st.composite
def lines(draw: st.DrawFn) -> tuple[click.Command, str, list[str]]:
    path, command = draw(st.sampled_from(range(len(commands()))).map(commands().__getitem__))
    options = [name for parameter in command.params for name in parameter.opts if name.startswith("-")] or ["--x"]
    words = HANDED | st.sampled_from(["1", "10s", "P1", "mail", "a.b", "{}"])
    option = st.sampled_from(options)
    one = words.map(lambda w: [w]) | option.map(lambda o: [o]) | st.tuples(option, words).map(list)
    joined = st.tuples(option, words).map(lambda pair: ["=".join(pair)])
    return command, " ".join(path), [word for part in draw(st.lists(one | joined, max_size=6)) for word in part]


@fuzzed(lines())
def test_a_command_s_arguments(line: tuple[click.Command, str, list[str]]) -> None:
    """They are only read: what it would do is not done."""
    command, path, words = line
    parent = click.Context(main, info_name="fourlane")
    with tempfile.TemporaryDirectory() as folder, chdir(folder), redirect_stdout(io.StringIO()):
        try:
            with command.make_context(path, list(words), parent=parent):
                pass
        except (click.ClickException, click.exceptions.Exit, click.Abort, FourlaneError):
            pass
        assert not os.listdir(folder)
