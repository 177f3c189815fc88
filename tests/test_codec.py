"""A job to bytes and back, as tables."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from fourlane import codec
from fourlane.errors import InvalidArguments, JobTooLarge, UnreadableJob


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ({}, b'["send",[]]'),
        ({"args": (1, "a")}, b'["send",[1,"a"]]'),
        ({"kwargs": {"to": "x"}}, b'["send",[],{"to":"x"}]'),
        ({"options": {"tenant": "a"}}, b'["send",[],{},{"tenant":"a"}]'),
        ({"enqueued_ms": 5}, b'["send",[],{},{},5]'),
        ({"call": 7}, b'["send",[],{},{},0,7]'),  # means nothing to who reads it
    ],
)
def test_what_is_empty_is_left_off(given: dict[str, Any], body: bytes) -> None:
    assert codec.encode("send", **given) == body


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"args": [1, "ä", None, True, 1.5, [], {"a": [{}]}]},
        {"args": [2**53 + 1], "kwargs": {"to": "x"}, "options": {"tenant": "a"}, "enqueued_ms": 5},
    ],
)
def test_there_and_back(given: dict[str, Any]) -> None:
    assert codec.decode(codec.encode("send", **given)) == codec.Envelope("send", **given)


def looped() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({1}, r"args\[0\]: builtins.set cannot be carried"),
        ([{"at": datetime.date(2026, 1, 1)}], r"args\[0\]\[0\]\.at: datetime.date"),
        (b"x", r"args\[0\]: builtins.bytes"),
        ({1: 2}, r"args\[0\]: the key 1 is int"),
        (float("nan"), r"args\[0\]: nan"),
        (float("-inf"), r"args\[0\]: -inf"),
        ("\ud800", "send: "),
        (looped(), "contain themselves"),
    ],
)
def test_what_json_cannot_carry_is_told_with_its_place(value: Any, words: str) -> None:
    with pytest.raises(InvalidArguments, match=words):
        codec.encode("send", [value])


@pytest.mark.parametrize(("args", "kwargs"), [("text", None), (5, None), ([], "text"), ([], [1])])
def test_what_are_no_arguments(args: Any, kwargs: Any) -> None:
    with pytest.raises(InvalidArguments, match=r"must be a (list|dict)"):
        codec.encode("send", args, kwargs)


def test_a_body_over_the_limit() -> None:
    assert len(codec.encode("send", ["x" * 86], max_bytes=99)) == 99
    with pytest.raises(JobTooLarge, match="has 100 bytes, the limit is 99"):
        codec.encode("send", ["x" * 87], max_bytes=99)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"null",
        b"[]",
        b"{}",
        b'["send"',
        b'["send",5]',
        b'["send",[],[]]',
        b"[7,[]]",
        b'["\xff"]',
        b"[" * 9_999,
    ],
)
def test_what_is_no_job(body: bytes) -> None:
    with pytest.raises(UnreadableJob, match="cannot be read"):
        codec.decode(body)
