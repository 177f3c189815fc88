"""What is known of models, beside what the providers' SDKs say of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from importlib.util import find_spec
from pathlib import Path

import pytest

from fourlane.providers.ai import catalogue
from fourlane.providers.ai.catalogue import End, end_of, kind_of, most_output

KINDS = [
    ("openai/gpt-6-luna", "text"),
    ("openai/gpt-image-2.5-flare", "image"),
    ("openai/dall-e-3", "image"),
    ("openai/whisper-1", "transcription"),
    ("openai/gpt-4o-transcribe", "transcription"),
    ("openai/gpt-4o-mini-tts", "speech"),
    ("openai/tts-1", "speech"),
    ("openai/text-embedding-3-small", "embedding"),
    ("openai/omni-moderation-latest", "moderation"),
    ("google/gemini-nano-banana-2.1", "image"),
    ("google/gemini-3.1-flash-tts-preview", "speech"),
    ("google/gemini-embedding-2", "embedding"),
    ("google/gemini-3.8-flash", "text"),
    ("openrouter/openai/gpt-5-image", "image"),
    ("perplexity/sonar", "text"),
]


@pytest.mark.parametrize(("full", "kind"), KINDS)
def test_what_a_model_is_for_is_told_by_its_name(full: str, kind: str) -> None:
    assert kind_of(full) == kind


def test_ends_that_are_known() -> None:
    assert end_of("openai/dall-e-3") == End(date(2026, 5, 12), "openai/gpt-image-2.5-flare")
    assert end_of("openai/tts-1") == End(date(2027, 1, 6))
    assert end_of("openai/gpt-of-next-month") is None
    assert end_of("openrouter/openai/gpt-4o") is None
    assert most_output("anthropic/claude-haiku-4-5") == 64_000
    assert most_output("openai/gpt-6-luna") is None


def test_what_succeeds_a_model_is_of_its_provider_and_lives() -> None:
    for full, end in catalogue._ends().items():
        assert not end.successor or end.successor.partition("/")[0] == full.partition("/")[0]
        assert not end.successor or end_of(end.successor) is None


def test_ends_that_anthropic_tells() -> None:
    assert end_of("anthropic/claude-sonnet-4-5") == End(date(2026, 11, 30), "anthropic/claude-sonnet-5-5")
    assert end_of("anthropic/claude-opus-4-5-20251101") == End(date(2027, 1, 22), "anthropic/claude-opus-5-5")


def test_an_sdk_that_has_it_elsewhere_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(catalogue, "_ANTHROPICS", "moved")
    catalogue._told_by_anthropic.cache_clear()
    assert end_of("anthropic/claude-3-opus-20240229") is not None
    assert "ends of Anthropic's models may be unknown" in caplog.text
    monkeypatch.undo()
    catalogue._told_by_anthropic.cache_clear()


def test_ends_that_openai_tells_are_in_the_table() -> None:
    """What fails here after an upgrade of the SDK is what the table lacks."""
    told = dict(told_by_openai())
    assert len(told) > 80
    table = {full.removeprefix("openai/"): end.on for full, end in catalogue._ends().items()}
    assert {name: on for name, on in told.items() if table.get(name) != on} == {}


def told_by_openai() -> Iterator[tuple[str, date]]:
    """From the texts behind its lists of names: "- "a", "b": … shutdown date: 2026-12-11 …"."""
    found = find_spec("openai")
    assert found is not None
    assert found.origin is not None
    types = Path(found.origin).parent / "types"
    for name in ("shared/chat_model", "image_model", "audio_model", "audio/speech_model", "embedding_model"):
        _, _, text = (types / f"{name}.py").read_text().partition("Deprecated values:")
        for item in text.split("\n- ")[1:]:
            item = " ".join(item.split())
            names, _, words = item.partition('":')
            if when := re.search(r"\d{4}-\d\d-\d\d|[A-Z][a-z]+ \d{1,2}, \d{4}", words):
                on = when[0] if when[0][0].isdigit() else f"{datetime.strptime(when[0], '%B %d, %Y'):%Y-%m-%d}"
                for one in re.findall(r'"([^"]+)"', names + '"'):
                    yield one, date.fromisoformat(on)
