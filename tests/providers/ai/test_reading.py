"""Pure rules of reading: events, text torn between pieces, thoughts in the text, ends, schemas."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from fourlane.providers.ai.answer import Outcome
from fourlane.providers.ai.outcomes import ANTHROPIC, CHAT, GOOGLE, RESPONSES
from fourlane.providers.ai.pieces import Gathered, Piece
from fourlane.providers.ai.question import ToolCall
from fourlane.providers.ai.schemas import strict
from fourlane.providers.ai.sse import events
from fourlane.providers.ai.stops import Stops
from fourlane.providers.ai.thoughts import Thoughts


class Sent:
    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk


STREAMS: list[tuple[bytes, list[Any]]] = [
    (b'data: {"a": 1}\n\ndata: {"a": 2}\n\n', [{"a": 1}, {"a": 2}]),
    (b'event: x\r\ndata: {"a": 1}\r\n\r\n', [{"a": 1}]),
    (b'data:{"a":1}\n\n', [{"a": 1}]),
    (b'data: {"a":\ndata: 1}\n\n', [{"a": 1}]),
    (b': PROCESSING\n\ndata: {"a": 1}\n\n', [{}, {"a": 1}]),
    (b'data: {"a": 1}\n\ndata: [DONE]\n\ndata: {"a": 2}\n\n', [{"a": 1}]),
    (b'data: {"a": 1}', [{"a": 1}]),  # no blank line at the end
    (b'id: 1\nretry: 5\n\n\ndata: {"a": "\\ud83d"}\n\n', [{"a": "\ud83d"}]),
    ('data: {"a": "é😀"}\n\n'.encode(), [{"a": "é😀"}]),
    (b"data: null\n\ndata: 3\n\n", [{}, {}]),
    (b"", []),
]


@pytest.mark.parametrize(("sent", "expected"), STREAMS)
def test_events_however_they_are_torn(sent: bytes, expected: list[Any]) -> None:
    async def read(*chunks: bytes) -> list[Any]:
        return [event async for event in events(Sent(*chunks))]

    assert asyncio.run(read(sent)) == expected
    assert asyncio.run(read(*(sent[n : n + 1] for n in range(len(sent))))) == expected


def test_an_event_that_is_none() -> None:
    async def read() -> None:
        async for _ in events(Sent(b"data: {not json\n\n")):
            pass

    with pytest.raises(json.JSONDecodeError):
        asyncio.run(read())


TEXTS = [
    (["\ud83d", "\ude00"], "😀"),
    (["hello \ud83d", "\ude00!"], "hello 😀!"),
    (["a\ud83d"], "a\ufffd"),  # alone at the end
    (["\ud83d", "a"], "\ufffda"),
    (["\ud83d", "\ud83d", "\ude00"], "\ufffd😀"),
    (["\ud83d", "", "\ude00"], "😀"),
    (["\ude00a"], "\ufffda"),
    (["\ud83d\ud83d\ud83d"], "\ufffd\ufffd\ufffd"),
    (["é", "\ud83d\ude00", "b"], "é😀b"),
]


@pytest.mark.parametrize(("pieces", "whole"), TEXTS, ids=lambda value: ascii(value))
def test_halves_of_a_letter_are_joined_over_pieces(pieces: list[str], whole: str) -> None:
    gathered = Gathered()
    shown = "".join(gathered.add(Piece(text=piece)) for piece in pieces)
    answer = gathered.answer()
    assert answer.text == whole
    assert whole.startswith(shown)
    answer.text.encode()


THOUGHTS = [
    ("<think>secret</think>hello", "hello"),
    ("<think>secret</think>\n\nhello there", "hello there"),
    ("\n<think>a</think>\n<think>b</think>hello", "hello"),
    ("hello <think>x</think>", "hello <think>x</think>"),  # amid an answer it is the answer's
    ("<thinking about>", "<thinking about>"),
    ("<think>cut off", ""),
    ("<thi", "<thi"),
    ("  hello", "  hello"),
    ("<think></think>", ""),
]


@pytest.mark.parametrize(("text", "left"), THOUGHTS)
def test_thoughts_at_the_beginning_of_a_text_are_left_out(text: str, left: str) -> None:
    for size in (1, 3, len(text)):
        thoughts = Thoughts()
        pieces = [text[start:end] for start, end in pairwise([*range(0, len(text), size), len(text)])]
        assert "".join(thoughts.without(piece) for piece in pieces) + thoughts.rest() == left


STOPS = [
    ("one END two", ("END",), "one "),
    ("one EN two", ("END",), "one EN two"),
    ("one EN", ("END",), "one EN"),
    ("a\n\nb", ("\n\n", "b"), "a"),
    ("abc", ("bc", "b"), "a"),
    ("abc", (), "abc"),
    ("ENEND", ("END",), "EN"),
]


@pytest.mark.parametrize(("text", "words", "left"), STOPS)
def test_a_text_ends_before_a_stop_word(text: str, words: tuple[str, ...], left: str) -> None:
    for size in (1, 2, len(text)):
        stops = Stops(words)
        pieces = [text[start:end] for start, end in pairwise([*range(0, len(text), size), len(text)])]
        assert "".join(stops.before(piece) for piece in pieces) + stops.rest() == left


ENDS: list[tuple[Piece, Outcome]] = [
    (Piece(text="hi", finish="stop", outcome="ok"), "ok"),
    (Piece(text=" \n", finish="stop", outcome="ok"), "empty"),
    (Piece(finish="stop", outcome="ok", calls=(ToolCall(id="1", name="f", arguments="{}"),)), "tool_calls"),
    (Piece(text="hi", finish="length", outcome="truncated"), "truncated"),
    (Piece(finish="length", outcome="truncated"), "truncated"),
    (Piece(text="hi", finish="a new word"), "truncated"),  # never a silent success
    (Piece(finish="a new word"), "blocked"),
    (Piece(text="hi", finish="refusal", outcome="refused"), "refused"),
]


@pytest.mark.parametrize(("piece", "outcome"), ENDS)
def test_how_an_answer_ends(piece: Piece, outcome: Outcome) -> None:
    gathered = Gathered()
    gathered.add(piece)
    assert gathered.answer().outcome == outcome


def test_every_word_of_the_sdks_for_an_end_is_known() -> None:
    from anthropic.types import StopReason
    from google.genai.types import FinishReason
    from openai.types.chat.chat_completion_chunk import Choice
    from openai.types.responses.response import IncompleteDetails

    def words(literal: Any) -> set[str]:
        found = getattr(literal, "__args__", ())
        return {word for each in found for word in (words(each) if not isinstance(each, str) else {each})}

    assert words(StopReason) <= ANTHROPIC.keys()
    assert words(Choice.model_fields["finish_reason"].annotation) <= CHAT.keys()
    assert words(IncompleteDetails.model_fields["reason"].annotation) <= RESPONSES.keys()
    assert {reason.value for reason in FinishReason} - {"FINISH_REASON_UNSPECIFIED"} <= GOOGLE.keys()


SCHEMAS: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    (
        {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3, "default": "x"}}, "required": ["a"]},
        {
            "type": "object",
            "properties": {"a": {"type": "string"}},
            "required": ["a"],
            "additionalProperties": False,
        },
    ),
    (
        {
            "type": "object",
            "properties": {"of": {"anyOf": [{"$ref": "#/$defs/T"}, {"type": "null"}]}},
            "$defs": {"T": {"type": "object", "properties": {"n": {"type": ["integer", "null"]}}}},
        },
        {
            "type": "object",
            "properties": {"of": {"anyOf": [{"$ref": "#/$defs/T"}, {"type": "null"}]}},
            "required": ["of"],
            "additionalProperties": False,
            "$defs": {
                "T": {
                    "type": "object",
                    "properties": {"n": {"type": ["integer", "null"]}},
                    "required": ["n"],
                    "additionalProperties": False,
                }
            },
        },
    ),
    ({"type": "object", "properties": {"a": {"type": "string", "default": "x"}}}, None),  # it would be invented
    ({"type": "array", "items": {"type": "string"}}, None),
    ({"type": "object", "additionalProperties": {"type": "string"}}, None),
    ({"type": "object", "properties": {"a": {"type": "object"}}}, None),
    ({"type": "object", "properties": {"a": {"allOf": [{"type": "string"}]}}}, None),
    ({"type": "object", "properties": {"a": True}}, None),
]


@pytest.mark.parametrize(("schema", "kept"), SCHEMAS)
def test_a_schema_that_is_kept_by_force(schema: dict[str, Any], kept: dict[str, Any] | None) -> None:
    before = json.dumps(schema)
    assert strict(schema) == kept
    assert json.dumps(schema) == before
