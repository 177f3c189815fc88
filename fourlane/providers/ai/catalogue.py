"""What is known of models: what each is for, how much it may say, and when its provider ends it.

A model that is not here is one that nothing is known of, and may be called: its provider says whether it is there.

What Anthropic's SDK tells of ends is read where it is installed, so that an upgrade of it is enough. OpenAI's tells
them in texts of its source, which no program can ask for: a test compares these with the table.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

__all__ = ["End", "Kind", "end_of", "kind_of", "most_output"]

log = logging.getLogger("fourlane.ai")

Kind = Literal["text", "image", "speech", "transcription", "embedding", "moderation"]


@dataclass(frozen=True, slots=True)
class End:
    """When a model is no longer to be had, and ``provider/model`` of what succeeds it; empty: nothing does."""

    on: date
    successor: str = ""


def end_of(full: str) -> End | None:
    """The end of a model; None: none is known."""
    told, table = _told_by_anthropic().get(full), _ends().get(full)
    if told is None:
        return table
    return End(told, table.successor if table else _anthropic_successor(full))


def kind_of(full: str) -> Kind:
    """What a model is for, by its name: providers name all others than those for text by what they do."""
    return next((kind for pattern, kind in _KINDS if pattern.search(full)), "text")


def most_output(full: str) -> int | None:
    """The most tokens of one answer; None where nobody says."""
    return next((most for pattern, most in _MOST_OUTPUT if pattern.match(full)), None)


_KINDS: Final[tuple[tuple[re.Pattern[str], Kind], ...]] = (
    (re.compile(r"moderation"), "moderation"),
    (re.compile(r"embed"), "embedding"),
    (re.compile(r"transcribe|whisper"), "transcription"),
    (re.compile(r"[-/]tts\b"), "speech"),
    (re.compile(r"[-/]image\b|dall-e|imagen|nano-banana"), "image"),
)

# platform.claude.com/docs: "Max output" of each model's page.
_MOST_OUTPUT: Final = (
    (re.compile(r"anthropic/claude-(fable|mythos|opus|sonnet)-5\b"), 128_000),
    (re.compile(r"anthropic/claude-(sonnet|opus|haiku)-4-5\b"), 64_000),
)

_SOL, _TERRA, _LUNA = "gpt-6.1-sol", "gpt-6.1-terra", "gpt-6-luna"
_IMAGE, _AUDIO = "gpt-image-2.5-flare", "gpt-audio-1.5"

_ENDS: Final[Mapping[str, tuple[tuple[str, str, str], ...]]] = {
    # The SDK's texts (openai 3.57); developers.openai.com/api/docs/deprecations for what succeeds or is not in them.
    # /v1/audio/speech ends with its models; what OpenAI names in their place cannot be called so.
    "openai": (
        ("2024-09-13", _LUNA, "gpt-3.5-turbo-16k gpt-3.5-turbo-0301 gpt-3.5-turbo-0613 gpt-3.5-turbo-16k-0613"),
        ("2024-12-06", _SOL, "gpt-4-vision-preview"),
        ("2025-06-06", _SOL, "gpt-4-32k gpt-4-32k-0314 gpt-4-32k-0613"),
        ("2025-07-28", _SOL, "o1-preview o1-preview-2024-09-12"),
        ("2025-10-10", _AUDIO, "gpt-4o-audio-preview-2024-10-01"),
        ("2025-10-27", _TERRA, "o1-mini o1-mini-2024-09-12"),
        ("2026-02-12", _TERRA, "codex-mini-latest"),
        ("2026-02-17", _LUNA, "chatgpt-4o-latest"),
        ("2026-03-26", _SOL, "gpt-4-0125-preview gpt-4-turbo-preview gpt-4-0314"),
        ("2026-05-07", _AUDIO, "gpt-4o-audio-preview gpt-4o-audio-preview-2024-12-17"),
        ("2026-05-07", _AUDIO, "gpt-4o-audio-preview-2025-06-03 gpt-4o-mini-audio-preview"),
        ("2026-05-07", _AUDIO, "gpt-4o-mini-audio-preview-2024-12-17"),
        ("2026-05-12", _IMAGE, "dall-e-2 dall-e-3"),
        ("2026-07-23", _SOL, "gpt-5.1-codex gpt-5.1-chat-latest gpt-5-chat-latest"),
        ("2026-07-23", _TERRA, "gpt-4o-search-preview gpt-4o-search-preview-2025-03-11"),
        ("2026-07-23", _LUNA, "gpt-4o-mini-search-preview gpt-4o-mini-search-preview-2025-03-11"),
        ("2026-08-10", _SOL, "gpt-5.3-chat-latest gpt-5.2-chat-latest"),
        ("2026-09-28", _LUNA, "gpt-3.5-turbo-1106"),
        ("2026-10-23", _IMAGE, "gpt-image-1"),
        ("2026-10-23", _SOL, "gpt-4 gpt-4-0613 gpt-4-1106-preview gpt-4-turbo gpt-4-turbo-2024-04-09"),
        ("2026-10-23", _SOL, "gpt-4o-2024-05-13"),
        ("2026-10-23", _SOL, "o1 o1-2024-12-17 o1-pro o1-pro-2025-03-19 o3-mini o3-mini-2025-01-31"),
        ("2026-10-23", _TERRA, "gpt-3.5-turbo gpt-3.5-turbo-0125 o4-mini o4-mini-2025-04-16"),
        ("2026-10-23", _LUNA, "gpt-4.1-nano gpt-4.1-nano-2025-04-14"),
        ("2026-12-01", _IMAGE, "gpt-image-1-mini gpt-image-1.5 gpt-image-1.5-2025-12-16 chatgpt-image-latest"),
        ("2026-12-11", _SOL, "gpt-5 gpt-5-2025-08-07 gpt-5-pro gpt-5-pro-2025-10-06"),
        ("2026-12-11", _SOL, "o3 o3-2025-04-16 o3-pro o3-pro-2025-06-10"),
        ("2026-12-11", _TERRA, "gpt-5-mini gpt-5-mini-2025-08-07"),
        ("2026-12-11", _LUNA, "gpt-5-nano gpt-5-nano-2025-08-07"),
        ("2027-01-06", "", "tts-1 tts-1-hd gpt-4o-mini-tts gpt-4o-mini-tts-2025-12-15"),
        ("2027-01-14", _LUNA, "gpt-4.1 gpt-4.1-2025-04-14 gpt-4.1-mini gpt-4.1-mini-2025-04-14"),
        ("2027-01-14", _LUNA, "gpt-4o gpt-4o-2024-11-20 gpt-4o-2024-08-06 gpt-4o-mini gpt-4o-mini-2024-07-18"),
        ("2027-01-20", _AUDIO, "gpt-audio-mini gpt-audio-mini-2025-12-15"),
        ("2027-02-26", "gpt-transcribe", "whisper-1 gpt-4o-transcribe gpt-4o-transcribe-diarize"),
        ("2027-02-26", "gpt-transcribe", "gpt-4o-mini-transcribe gpt-4o-mini-transcribe-2025-12-15"),
        ("2027-04-01", _SOL, "gpt-5.1 gpt-5.1-2025-11-13 gpt-5.3-codex"),
        ("2027-04-01", _LUNA, "gpt-5.4-nano gpt-5.4-nano-2026-03-17"),
    ),
    # The release notes; later ends, and those of dated names, come from the SDK.
    "anthropic": (
        ("2025-07-21", "claude-sonnet-5-5", "claude-2.0 claude-2.1 claude-3-sonnet-20240229"),
        ("2025-10-28", "claude-sonnet-5-5", "claude-3-5-sonnet-20240620 claude-3-5-sonnet-20241022"),
        ("2026-01-05", "claude-opus-5-5", "claude-3-opus-20240229"),
        ("2026-06-15", "claude-opus-5-5", "claude-opus-4-0 claude-opus-4-20250514"),
        ("2026-06-15", "claude-sonnet-5-5", "claude-sonnet-4-0 claude-sonnet-4-20250514"),
    ),
    # ai.google.dev/gemini-api/docs/deprecations and changelog; what succeeds is what Google routes to, or names.
    "google": (
        ("2025-09-24", "gemini-3.8-flash", "gemini-1.5-pro gemini-1.5-pro-001 gemini-1.5-pro-002"),
        ("2025-09-24", "gemini-3.8-flash", "gemini-1.5-pro-latest"),
        ("2025-09-24", "gemini-3.5-flash-lite", "gemini-1.5-flash gemini-1.5-flash-001 gemini-1.5-flash-002"),
        ("2025-09-24", "gemini-3.5-flash-lite", "gemini-1.5-flash-latest gemini-1.5-flash-8b"),
        ("2026-01-14", "gemini-embedding-2", "text-embedding-004"),
        ("2026-03-09", "gemini-3.1-pro-preview", "gemini-3-pro-preview"),
        ("2026-06-01", "gemini-3.5-flash-lite", "gemini-2.0-flash gemini-2.0-flash-001"),
        ("2026-06-01", "gemini-3.5-flash-lite", "gemini-2.0-flash-lite gemini-2.0-flash-lite-001"),
        ("2026-12-01", "gemini-3.8-flash", "gemini-2.5-pro"),
        ("2026-12-01", "gemini-3.5-flash-lite", "gemini-2.5-flash"),
        ("2027-05-07", "gemini-3.5-flash-lite", "gemini-3.1-flash-lite"),
    ),
}
"""By provider: the last day's date, what succeeds, and who ends."""


@cache
def _ends() -> Mapping[str, End]:
    return {
        f"{provider}/{name}": End(date.fromisoformat(on), successor and f"{provider}/{successor}")
        for provider, rows in _ENDS.items()
        for on, successor, names in rows
        for name in names.split()
    }


_ANTHROPICS: Final = "deprecated_models"


@cache
def _told_by_anthropic() -> Mapping[str, date]:
    """What the SDK warns of. Its file is run by itself: the SDK takes a second to load, and who enqueues needs none."""
    found = importlib.util.find_spec("anthropic")
    for folder in (found.submodule_search_locations or ()) if found else ():
        file = Path(folder, "_data", f"{_ANTHROPICS}.py")
        spec = importlib.util.spec_from_file_location("_fourlane_anthropic_ends", file)
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
                return dict(_dates(module.DEPRECATED_MODELS))
            except Exception as error:  # it is private: another release may have it elsewhere, or otherwise
                log.warning("%s cannot be read (%r): ends of Anthropic's models may be unknown", file, error)
    return {}


def _dates(told: Mapping[str, Any]) -> Iterator[tuple[str, date]]:
    for name, words in told.items():  # "November 30th, 2026"
        text = re.sub(r"(?<=\d)(st|nd|rd|th)\b", "", words)
        yield f"anthropic/{name}", datetime.strptime(text, "%B %d, %Y").date()


def _anthropic_successor(full: str) -> str:
    """The newest of its family, so far as known here."""
    family = re.search(r"opus|sonnet|haiku|fable|mythos", full)
    newest = {"fable": "fable-5-2", "mythos": "mythos-5-2"}
    return f"anthropic/claude-{newest.get(family[0], f'{family[0]}-5-5')}" if family else ""
