"""What each argument of each task must be: all else is refused at the call, by the argument's name."""

from __future__ import annotations

from typing import Any

import pytest

from examples.ai.provider import Provider
from fourlane.errors import InvalidArguments
from fourlane.tasks import ai

NAN = float("nan")
TEXT = [None, 0, 1, True, False, NAN, [], {}, ["x"], {"a": 1}, b"x"]
MAYBE_TEXT = TEXT[1:]
LIST = [0, 1, True, False, NAN, {}, {"a": 1}, "x", ""]
NUMBER = [0, True, False, NAN, 1.5, [], {}, "2", ""]
SOUND = "https://example.com/a.wav"

TAKEN: list[tuple[Any, tuple[Any, ...], dict[str, list[Any]]]] = [
    (
        ai.image,
        ("a fox",),
        {
            **dict.fromkeys(("model", "size", "quality", "format", "background"), ("", *TEXT)),
            **dict.fromkeys(("tenant", "name"), MAYBE_TEXT),
            "n": [None, *NUMBER],
            "images": [*LIST, [1], [None], [""]],
        },
    ),
    (
        ai.speak,
        ("hello",),
        {
            **dict.fromkeys(("model", "voice", "format", "instructions"), TEXT),
            **dict.fromkeys(("tenant", "name"), MAYBE_TEXT),
        },
    ),
    (
        ai.transcribe,
        (SOUND,),
        {
            **dict.fromkeys(("model", "language", "prompt"), TEXT),
            **dict.fromkeys(("tenant", "name"), MAYBE_TEXT),
        },
    ),
    (
        ai.embed,
        (["a"],),
        {"model": ["", *TEXT], **dict.fromkeys(("tenant", "name"), MAYBE_TEXT), "dimensions": NUMBER},
    ),
    (ai.moderate, (["a"],), {"model": ["", *TEXT], **dict.fromkeys(("tenant", "name"), MAYBE_TEXT)}),
    (
        ai.generate,
        ("hi",),
        {
            **dict.fromkeys(("system", "tenant", "name"), MAYBE_TEXT),
            "tools": [*LIST, None, object()],
            "files": [*LIST, None],
        },
    ),
    (ai.analyze, ("hi",), {"system": MAYBE_TEXT, "tools": LIST}),
    (ai.summarize, (), {"source": ["", *MAYBE_TEXT]}),
]
CASES = [
    (task, args, name, value) for task, args, options in TAKEN for name, values in options.items() for value in values
]


@pytest.mark.parametrize("task", [ai.image, ai.speak, ai.transcribe, ai.embed, ai.moderate, ai.generate])
def test_what_a_task_is_about_is_of_its_type(asked: Any, task: Any) -> None:
    for value in TEXT:
        if not (task in (ai.embed, ai.moderate) and value == ["x"]) and not (task is ai.generate and value is None):
            with pytest.raises(InvalidArguments):
                task.check(value)


def test_an_argument_of_another_type_is_refused_by_its_name(asked: Any, provider: Provider) -> None:
    taken = []
    for task, args, name, value in CASES:
        try:
            task.check(*args, **{name: value})
        except InvalidArguments as error:
            said = str(error)
            if name not in said:
                taken.append((task.fn.__name__, name, value, said))
        except Exception as error:
            taken.append((task.fn.__name__, name, value, repr(error)))
        else:
            taken.append((task.fn.__name__, name, value, "taken"))
    assert taken == []
    assert provider.requests == []


UNKNOWN = [
    (ai.image, ("a fox",), "image"),
    (ai.speak, ("hello",), "speak"),
    (ai.transcribe, (SOUND,), "transcribe"),
    (ai.embed, (["a"],), "embed"),
    (ai.moderate, (["a"],), "moderate"),
    (ai.generate, ("hi",), "generate"),
    (ai.analyze, ("hi",), "analyze"),
    (ai.summarize, ("hi",), "summarize"),
]


@pytest.mark.parametrize(("task", "args", "name"), UNKNOWN)
def test_an_option_that_there_is_not_is_told_of_the_task(
    asked: Any, task: Any, args: tuple[Any, ...], name: str
) -> None:
    with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected keyword argument 'top_p'"):
        task.check(*args, top_p=1)
    with pytest.raises(TypeError, match=rf"^{name}\(\) takes .* positional argument"):
        task.check(*args, "another", "and one")


WORDLESS = ["text-embedding-3-small", "gpt-transcribe", "gemini-3.8-flash-tts", "gpt-image-2.5-flare"]
WORDLESS += ["openai/dall-e-4", "openai/gpt-4o-mini-tts", "omni-moderation-latest", "google/gemini-embedding-2"]
OF_TEXT = ["gpt-6-luna", "gpt-4o", "openai/gpt-6.1-sol", "gemini-3.8-flash", "google/gemini-2.5-pro"]


@pytest.mark.parametrize("model", WORDLESS)
def test_a_model_that_writes_no_text_is_not_asked_for_any(asked: Any, model: str) -> None:
    for task in (ai.generate, ai.analyze, ai.summarize):
        with pytest.raises(InvalidArguments, match=r"answers no prompt; use gpt-6-luna"):
            task.check("hi", model=model)
    with pytest.raises(InvalidArguments, match=r"answers no prompt"):
        ai.translate.check(source="https://example.com/a.txt", to="German", model=model)


@pytest.mark.parametrize("model", OF_TEXT)
def test_a_model_of_text_is_asked_for_nothing_else(asked: Any, model: str) -> None:
    others = [(ai.image, "a fox"), (ai.speak, "hi"), (ai.transcribe, SOUND), (ai.embed, ["a"]), (ai.moderate, ["a"])]
    for task, args in others:
        with pytest.raises(InvalidArguments, match=r"cannot (make images|speak|transcribe|embed|moderate); use \w+/"):
            task.check(args, model=model)


def test_a_model_that_nobody_knows_may_be_asked(asked: Any) -> None:
    ai.image.check("a fox", model="openai/of-next-month")
    ai.embed.check(["a"], model="openrouter/baai/bge-m3")
    ai.generate.check("hi", model="openai/of-next-month")
    ai.generate.check("hi", model="google/gemini-3.1-flash-image")


def test_a_fallback_can_do_it_too(asked: Any) -> None:
    asked(fallbacks={"gpt-6-luna": ["gpt-transcribe"]})
    with pytest.raises(InvalidArguments, match="openai/gpt-transcribe is for transcriptions"):
        ai.generate.check("hi")


@pytest.mark.parametrize(
    ("model", "most"), [("claude-haiku-4.5", 64_000), ("claude-opus-5.5", 128_000), ("gpt-6-luna", 10_000_000)]
)
def test_no_more_tokens_than_the_model_says(asked: Any, model: str, most: int) -> None:
    ai.generate.check("hi", model=model, max_tokens=most)
    with pytest.raises(InvalidArguments, match=rf"max_tokens.* {most:,}"):
        ai.generate.check("hi", model=model, max_tokens=most + 1)
