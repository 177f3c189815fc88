"""What the models of a family take, by their names: the one place for it.

A row holds from a version on, until a later row of its line: models of the next months are taken for the newest row. A
provider that refuses a parameter all the same is asked again without it (``refusals``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from fourlane.providers.ai.question import Effort

__all__ = ["EFFORTS", "Family", "family", "nearest"]

Version = tuple[int, int]

EFFORTS: Final[tuple[Effort, ...]] = get_args(Effort)
"""From the least to the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What its models take.

    Parameters:
      efforts: how much they can be told to reason; empty: they cannot be told.
      reasons: they think before they answer, unless they are told not to.
      samples: they take a temperature; ``unless_reasoning``: where they are told not to reason.
      stops: they take stop words.
      thinking: how one tells them: ``effort`` alone, ``adaptive``, ``always`` (adaptive, and never off), by a ``level``
        or by a ``budget`` of tokens.
      forced: they take it that a tool must be called.
      hears: they take sound.
      first_seconds: how long they may be silent before the first piece of an answer.
      silence_seconds: between two of them.
    """

    efforts: tuple[Effort, ...] = ()
    reasons: bool = False
    samples: bool | Literal["unless_reasoning"] = True
    stops: bool = True
    thinking: Literal["effort", "adaptive", "always", "level", "budget"] = "effort"
    forced: bool = True
    hears: bool = True
    first_seconds: float = 30.0
    silence_seconds: float = 30.0


_PLAIN: Final = Family()
_LOW_TO_HIGH: Final[tuple[Effort, ...]] = ("low", "medium", "high")
_REASONS: Final = Family(
    efforts=_LOW_TO_HIGH, reasons=True, samples=False, stops=False, first_seconds=600.0, silence_seconds=300.0
)
_FROM_NONE: Final = replace(_REASONS, efforts=("none", *_LOW_TO_HIGH), samples="unless_reasoning")
_XHIGH: Final = replace(_FROM_NONE, efforts=("none", *_LOW_TO_HIGH, "xhigh"))
_CODEX: Final = replace(_REASONS, efforts=(*_LOW_TO_HIGH, "xhigh"))

_CLAUDE: Final = replace(_REASONS, hears=False, samples=True, stops=True, reasons=False, thinking="adaptive")
_CLAUDE_BUDGET: Final = replace(_CLAUDE, thinking="budget", first_seconds=120.0, silence_seconds=60.0)
_CLAUDE_XHIGH: Final = replace(_CLAUDE, efforts=(*_LOW_TO_HIGH, "xhigh", "max"), samples=False)
_CLAUDE_THINKS: Final = replace(_CLAUDE_XHIGH, reasons=True)
_CLAUDE_ALWAYS: Final = replace(_CLAUDE_THINKS, thinking="always", forced=False)

_GEMINI_BUDGET: Final = Family(
    efforts=("none", *_LOW_TO_HIGH), reasons=True, thinking="budget", first_seconds=300.0, silence_seconds=120.0
)
_GEMINI_LEVEL: Final = replace(_GEMINI_BUDGET, efforts=_LOW_TO_HIGH, thinking="level")

# Provider and line, from which version on, what its models take. The first line that fits counts, and of its rows the
# last that is not newer than the model.
_LINES: Final[tuple[tuple[str, str, tuple[tuple[Version, Family], ...]], ...]] = (
    ("openai", r"gpt-\d[\d.]*-chat|chatgpt|.*(?:audio|search-preview|realtime)", (((0, 0), _PLAIN),)),
    ("openai", r"gpt-oss", (((0, 0), replace(_REASONS, samples=True, stops=True)),)),
    ("openai", r"o\d.*deep-research", (((0, 0), replace(_REASONS, efforts=("medium",), first_seconds=1800.0)),)),
    ("openai", r"o(?=\d)", (((0, 0), _REASONS),)),
    (
        "openai",
        r"gpt-(?=\d.*-pro)",
        (
            ((5, 0), replace(_REASONS, efforts=("high",), first_seconds=1800.0)),
            ((5, 2), replace(_REASONS, efforts=("medium", "high", "xhigh"), first_seconds=1800.0)),
        ),
    ),
    ("openai", r"gpt-(?=\d.*-codex)", (((0, 0), _REASONS), ((5, 2), _CODEX))),
    (
        "openai",
        r"gpt-",
        (
            ((0, 0), _PLAIN),
            ((5, 0), replace(_REASONS, efforts=("minimal", *_LOW_TO_HIGH))),
            ((5, 1), _FROM_NONE),
            ((5, 2), _XHIGH),
            ((5, 6), replace(_XHIGH, efforts=(*_XHIGH.efforts, "max"))),
        ),
    ),
    ("openai", r"", (((0, 0), _PLAIN),)),
    ("anthropic", r"claude-(?=\d)|claude-instant", (((0, 0), _PLAIN),)),
    ("anthropic", r"claude-mythos-preview", (((0, 0), replace(_CLAUDE_XHIGH, thinking="always")),)),
    ("anthropic", r"claude-haiku-", (((4, 0), _CLAUDE_BUDGET), ((4, 6), _CLAUDE_THINKS))),
    (
        "anthropic",
        r"claude-opus-",
        (
            ((4, 0), _CLAUDE_BUDGET),
            ((4, 6), replace(_CLAUDE, efforts=(*_LOW_TO_HIGH, "max"))),
            ((4, 7), _CLAUDE_XHIGH),
            ((5, 0), _CLAUDE_THINKS),
            ((5, 5), _CLAUDE_ALWAYS),
        ),
    ),
    (
        "anthropic",
        r"claude-sonnet-",
        (
            ((4, 0), _CLAUDE_BUDGET),
            ((4, 6), replace(_CLAUDE, efforts=(*_LOW_TO_HIGH, "max"))),
            ((5, 0), _CLAUDE_THINKS),
        ),
    ),
    ("anthropic", r"claude-[a-z]+-", (((0, 0), _CLAUDE_THINKS), ((5, 1), _CLAUDE_ALWAYS))),
    ("anthropic", r"", (((0, 0), _PLAIN),)),
    (
        "google",
        r"gemini-(?=.*pro)",
        (
            ((0, 0), _PLAIN),
            ((2, 5), replace(_GEMINI_BUDGET, efforts=_LOW_TO_HIGH)),
            ((3, 0), replace(_GEMINI_LEVEL, efforts=("low", "high"))),
            ((3, 1), _GEMINI_LEVEL),
        ),
    ),
    ("google", r"gemini-", (((0, 0), _PLAIN), ((2, 5), _GEMINI_BUDGET), ((3, 0), _GEMINI_LEVEL))),
    ("google", r"", (((0, 0), _PLAIN),)),
    ("perplexity", r".*deep-research", (((0, 0), replace(_REASONS, samples=True, stops=True, first_seconds=1800.0)),)),
    ("perplexity", r".*reasoning", (((0, 0), replace(_REASONS, efforts=(), samples=True, stops=True)),)),
    ("perplexity", r"", (((0, 0), _PLAIN),)),
)


def family(provider: str, model: str) -> Family:
    """What a model takes; the newest row of its line where it is newer than all of them."""
    if provider == "openrouter":
        return _of_openrouter(model)
    name = model.removeprefix("ft:")
    for of, line, rows in _LINES:
        found = re.match(line, name) if of == provider else None
        if found is not None:
            version = _version(name[found.end() :])
            return next((takes for since, takes in reversed(rows) if since <= version), rows[0][1])
    return _PLAIN


def nearest(effort: Effort, efforts: tuple[Effort, ...]) -> Effort | None:
    """The one of ``efforts`` that is closest, the greater of two; None: there is none."""
    place = EFFORTS.index(effort)
    return min(efforts, key=lambda other: (abs(EFFORTS.index(other) - place), -EFFORTS.index(other)), default=None)


def _of_openrouter(model: str) -> Family:
    """OpenRouter takes all efforts and drops what the model behind it refuses, but the rest is the model's own."""
    maker, _, name = model.partition("/")
    behind = family(maker, name.partition(":")[0])
    efforts = EFFORTS if behind.efforts else ()
    return replace(behind, efforts=efforts, first_seconds=max(behind.first_seconds, 120.0), forced=True)


def _version(text: str) -> Version:
    """``4-5-20250929`` and ``5.1-codex`` begin with a version, ``4o`` and ``5`` with half of one."""
    found = re.match(r"(\d{1,2})(?:[.-](\d{1,2})(?!\d))?(?!\d)", text)
    return (int(found[1]), int(found[2] or 0)) if found else (99, 0)
