"""Conversations in JSON: what is taken, and the path of what is not."""

from __future__ import annotations

from typing import Any

import pytest

from fourlane.errors import InvalidArguments
from fourlane.providers.ai import Answer, ToolCall, Usage
from fourlane.tasks.ai.money.prices import Charge
from fourlane.tasks.ai.paid.reply import reply_of, summed
from fourlane.tasks.ai.text.messages import Source, Turn, turns_of

USER = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "name": "weather", "arguments": "{}"}
WANTS = {"role": "assistant", "content": None, "tool_calls": [CALL]}


def image(source: Any) -> dict[str, Any]:
    return {"type": "image", "source": source}


TAKEN = [
    # prompt, files, messages -> turns
    ("hi", [], None, [Turn(role="user", text="hi")]),
    (None, ["a.pdf"], None, [Turn(role="user", sources=(Source("file", "a.pdf", "files[0]"),))]),
    (None, [], [USER], [Turn(role="user", text="hi")]),
    (
        None,
        [],
        [{"role": "user", "content": [{"type": "text", "text": "see"}, image("https://x/y.png")]}],
        [Turn(role="user", text="see", sources=(Source("image", "https://x/y.png", "messages[0].content[1].source"),))],
    ),
    # neighbours of one role are one turn
    (None, [], [USER, USER], [Turn(role="user", text="hi\n\nhi")]),
    (
        None,
        [],
        [USER, WANTS, {"role": "tool", "id": "c1", "content": "rain"}],
        [
            Turn(role="user", text="hi"),
            Turn(role="assistant", calls=(ToolCall(**CALL),)),
            Turn(role="tool", text="rain", call_id="c1"),
        ],
    ),
]


@pytest.mark.parametrize(("prompt", "files", "messages", "turns"), TAKEN)
def test_what_is_taken(prompt: str | None, files: list[str], messages: Any, turns: list[Turn]) -> None:
    assert list(turns_of(prompt, messages, files)) == turns


def wants(**given: Any) -> list[dict[str, Any]]:
    """A conversation whose call of a tool is otherwise."""
    return [USER, WANTS | {"tool_calls": [CALL | given]}, {"role": "tool", "id": "c1", "content": "rain"}]


def answered(raw: Any) -> list[dict[str, Any]]:
    return [USER, WANTS | {"raw": raw}, {"role": "tool", "id": "c1", "content": "rain"}]


RAW = {"provider": "openai", "model": "gpt-6-luna", "content": [{"type": "reasoning"}]}
REFUSED = [
    (None, [], None, "the prompt is empty"),
    (" ", [], None, "the prompt is empty"),
    (7, [], None, "the prompt is text, not int"),
    ("hi", [], [USER], "a prompt or messages, not both"),
    (None, ["a"], [USER], "files go with a prompt"),
    ("hi", "a.pdf", None, "files: a list of sources, not str"),
    ("hi", [""], None, r"files\[0\]: text that is not empty"),
    (None, [], [], "messages: a list of one message at least"),
    (None, [], "hi", "messages: a list"),
    (None, [], ["hi"], r"messages\[0\]: an object"),
    (None, [], [{"role": "system", "content": "x"}], r"messages\[0\].role: instructions are given as system="),
    (None, [], [{"role": "robot", "content": "x"}], r"messages\[0\].role: user, assistant or tool, not 'robot'"),
    (None, [], [USER | {"extra": 1}], r"messages\[0\]: 'extra' means nothing"),
    (None, [], [{"role": "user", "content": 7}], r"messages\[0\].content: text, or a list of parts, not int"),
    (None, [], [{"role": "user", "content": ""}], r"messages\[0\].content: is empty"),
    (None, [], [{"role": "user", "content": [{"type": "video"}]}], r"content\[0\].type: text, image, file, audio"),
    (None, [], [{"role": "user", "content": [image(7)]}], r"messages\[0\].content\[0\].source: text"),
    (None, [], [USER, {"role": "assistant", "content": [image("x")]}, USER], r"\[1\].content\[0\]: only a user's"),
    (None, [], [{"role": "assistant", "content": "x"}, USER], "the first is of the user"),
    (None, [], [USER, {"role": "assistant", "content": "The"}], "do not go on with a beginning of theirs"),
    (None, [], [USER, WANTS, USER], "the tool call 'c1' has no answer"),
    (None, [], [USER, {"role": "tool", "id": "c1", "content": "x"}], "'c1' is to no call before it"),
    (None, [], [{"role": [], "content": "x"}], r"messages\[0\].role: user"),
    (None, [], [USER, WANTS | {"tool_calls": 7}], r"messages\[1\].tool_calls: a list, not int"),
    (None, [], [USER, WANTS | {"tool_calls": {}}], r"messages\[1\].tool_calls: a list, not dict"),
    (None, [], wants(type="function"), r"messages\[1\].tool_calls\[0\]: 'type' means nothing"),
    *(
        (None, [], wants(arguments=arguments), r"messages\[1\].tool_calls\[0\].arguments: are not JSON")
        for arguments in ('{"a"', '{"a":NaN}', '{"a": 1} x', "[" * 20_000)
    ),
    *(
        (None, [], wants(arguments=arguments), r"messages\[1\].tool_calls\[0\].arguments: a JSON object")
        for arguments in ("[1]", "null", "7", '"x"')
    ),
    *((None, [], wants(arguments=arguments), r"arguments: text that is") for arguments in (None, {}, {"a": 1}, "")),
    *((None, [], answered(raw), r"messages\[1\].raw: an object") for raw in ({}, [], 7, "x", RAW | {"more": 1})),
    *((None, [], answered(RAW | {"model": model}), r"messages\[1\].raw.model: text") for model in (None, 7, "")),
    *(
        (None, [], answered(RAW | {"content": content}), r"messages\[1\].raw.content: a list of objects")
        for content in ("x", ["x"], None, [[1]], {"a": 1}, [], {"reasoning_details": "x"}, {"reasoning_details": [1]})
    ),
    *(
        (None, [], [{"role": "user", "content": [part | {"detail": 1}]}], r"content\[0\]: 'detail' means nothing")
        for part in (image("https://x/y.png"), {"type": "text", "text": "x"})
    ),
]


@pytest.mark.parametrize(("prompt", "files", "messages", "words"), REFUSED)
def test_what_is_refused_says_where(prompt: Any, files: Any, messages: Any, words: str) -> None:
    with pytest.raises(InvalidArguments, match=words):
        turns_of(prompt, messages, files)


@pytest.mark.parametrize("content", [RAW["content"], {"reasoning_details": [{"type": "reasoning.text"}]}])
def test_a_turn_goes_back_as_its_answer_gave_it(content: Any) -> None:
    raw = RAW | {"content": content}
    assert turns_of(None, answered(raw), ())[1].raw == raw


def test_replies_add_up() -> None:
    answers = [Answer(text=text, usage=Usage(input_tokens=3, output_tokens=1)) for text in ("first", "last")]
    charged = Charge(100_000_000, known=True, estimated=False)
    replies = [reply_of("openai/gpt-6-luna", answer, charged, [answer.text]) for answer in answers]
    whole = summed([*replies, replies[-1]])
    assert (whole["text"], whole["input_tokens"], whole["output_tokens"]) == ("last", 9, 3)
    assert (whole["cost_usd"], whole["cost_known"], whole["files"]) == (0.3, True, ["first", "last", "last"])
