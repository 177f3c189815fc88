"""Names of models: short ones, those that ended, those that nobody knows."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from fourlane.config.groups.ai import AiOptions
from fourlane.errors import InvalidArguments, SettingsError
from fourlane.providers.ai.catalogue import End, end_of, kind_of
from fourlane.tasks.ai import MODELS, AiConfig
from fourlane.tasks.ai.config import config_from
from fourlane.tasks.ai.models import ends
from fourlane.tasks.ai.models import names as models
from fourlane.tasks.ai.models.names import ends_soon
from fourlane.tasks.ai.money.prices import context_window

TODAY = datetime.now(UTC).date()
PAST, SOON, LATER = (TODAY + timedelta(days=days) for days in (-1, 3, 90))

DEFAULTS = {
    models.TEXT_MODEL: "text",
    models.IMAGE_MODEL: "image",
    models.TRANSCRIPTION_MODEL: "transcription",
    models.SPEECH_MODEL: "speech",
    models.EMBEDDING_MODEL: "embedding",
    models.MODERATION_MODEL: "moderation",
}


@pytest.mark.parametrize(("name", "kind"), DEFAULTS.items())
def test_what_tasks_ask_for_by_default_lives_beyond_a_year_and_is_priced(name: str, kind: str) -> None:
    full = MODELS[name]
    assert kind_of(full) == kind
    assert end_of(full) is None


@pytest.mark.parametrize("name", MODELS)
def test_a_short_name_leads_to_a_model_that_lives(name: str) -> None:
    full = AiConfig().resolve(name)
    assert not AiConfig().has_ended(full)
    assert AiConfig().living(name) == (full,)


@pytest.mark.parametrize("name", [n for n in MODELS if kind_of(MODELS[n]) == "text" and n != "sonar"])
def test_the_window_of_a_text_model_is_known(name: str) -> None:
    assert context_window(AiConfig().resolve(name))


RESOLVED = [
    ("dall-e-3", {}, "openai/gpt-image-2.5-flare"),
    ("gemini-1.5-pro", {}, "google/gemini-3.8-flash"),
    ("gemini-1.5-flash", {}, "google/gemini-3.5-flash-lite"),
    ("claude-sonnet-4.5", {}, "anthropic/claude-sonnet-5-5"),
    ("sonar", {}, "perplexity/sonar"),
    # When its day comes a short name leads to what succeeds; what the settings say wins.
    ("gpt-4o", {"end_of_life": {"openai/gpt-4o": PAST}}, "openai/gpt-6-luna"),
    ("gpt-4o", {"models": {"gpt-4o": "openai/gpt-4.1"}}, "openai/gpt-4.1"),
    ("mine", {"models": {"mine": "gpt-6-luna"}}, "openai/gpt-6-luna"),
    ("dall-e-3", {"end_of_life": {"openai/dall-e-3": None}}, "openai/dall-e-3"),
    # One that is named in full is what is asked for.
    ("openai/dall-e-3", {}, "openai/dall-e-3"),
    # Next month's.
    ("openai/gpt-9", {}, "openai/gpt-9"),
    ("openrouter/a/b:free", {}, "openrouter/a/b:free"),
]


@pytest.mark.parametrize(("name", "settings", "full"), RESOLVED)
def test_names(name: str, settings: dict[str, object], full: str) -> None:
    assert AiConfig(**settings).resolve(name) == full  # type: ignore[arg-type]


NONE = [
    ("gpt4o", "'gpt4o' is no model; did you mean gpt-4o"),
    ("claude-sonet-5.5", "did you mean claude-sonnet-5.5"),
    ("mein", "did you mean mine?"),
    ("qqqq", "'qqqq' is no model; `fourlane ai models` lists short names"),
    ("opnai/gpt-4o", "there is no provider 'opnai'; use one of anthropic, google"),
    ("openai/", "is no model"),
    ("openai/gpt 4o", "is no model"),
    ("", "is no model"),
]


@pytest.mark.parametrize(("name", "says"), NONE)
def test_a_name_that_is_none(name: str, says: str) -> None:
    with pytest.raises(InvalidArguments, match=says.replace("?", r"\?")):
        AiConfig(models={"mine": "openai/gpt-6-luna"}).resolve(name)


LIVING = [
    # fallbacks, who is asked for, who is asked
    ({}, "openai/gpt-6-luna", ("openai/gpt-6-luna",)),
    ({"openai/dall-e-2": ["gpt-image-2.5-flare"]}, "openai/dall-e-2", ("openai/gpt-image-2.5-flare",)),
    ({"gpt-4o": ["openai/gpt-4-turbo", "gpt-6-luna"]}, "gpt-4o", ("openai/gpt-4o", "openai/gpt-6-luna")),
    # By its full name, whichever name it was asked by; nobody twice.
    ({"openai/gpt-4o": ["openai/gpt-4o", "gpt-6-luna"]}, "gpt-4o", ("openai/gpt-4o", "openai/gpt-6-luna")),
]


@pytest.mark.parametrize(("fallbacks", "name", "asked"), LIVING)
def test_those_that_ended_are_not_asked(fallbacks: dict[str, list[str]], name: str, asked: tuple[str, ...]) -> None:
    assert AiConfig(fallbacks=fallbacks, end_of_life={"openai/gpt-4o": LATER}).living(name) == asked


def test_one_that_ended_and_has_no_fallback_is_refused() -> None:
    says = "openai/dall-e-3 was retired on 2026-05-12; use openai/gpt-image-2.5-flare"
    with pytest.raises(InvalidArguments, match=says):
        AiConfig().living("openai/dall-e-3")
    with pytest.raises(InvalidArguments, match=f"openai/x was retired on {PAST}; use another model"):
        AiConfig(end_of_life={"openai/x": PAST}).living("openai/x")


@pytest.mark.parametrize(("days", "soon"), [(-1, False), (0, False), (1, True), (30, True), (31, False)])
def test_when_an_end_is_near(days: int, soon: bool) -> None:
    day = date(2026, 11, 28)
    assert ends_soon(End(day + timedelta(days=days)), day) is soon


def test_ends_of_what_the_settings_name_are_told() -> None:
    options = AiOptions.model_validate(
        {
            "models": {"fast": "openai/a"},
            "fallbacks": {"gpt-6-luna": ["openai/b"]},
            "limits": {"openai": {"requests_per_minute": 1}, "openai/c": {"requests_per_minute": 1}},
            "prices": {"openai/d": {"input": 1}},
            "end_of_life": {
                "openai/a": str(SOON),
                "openai/b": str(PAST),
                "openai/c": str(LATER),
                "openai/d": str(SOON),
            },
        }
    )
    assert ends.warnings(options) == [
        f"FOURLANE_AI: openai/a will be retired on {SOON}; use another model",
        f"FOURLANE_AI: openai/b was retired on {PAST}; use another model",
        f"FOURLANE_AI: openai/d will be retired on {SOON}; use another model",
    ]


MEANT: list[tuple[dict[str, Any], str, Any]] = [
    ({"models": {"a": "b", "b": "gpt-4o"}}, "models", {"a": "gpt-4o", "b": "gpt-4o"}),
    ({"limits": {"sonar": {"requests_per_minute": 1}}}, "limits", {"perplexity/sonar": {"requests_per_minute": 1}}),
    ({"limits": {"openai/*": {"requests_per_minute": 1}}}, "limits", {"openai": {"requests_per_minute": 1}}),
    ({"prices": {"gpt-4o": {"input": 9}}}, "prices", {"openai/gpt-4o": {"input": 9}}),
    ({"prices": {"openai": {"input": 9}}}, "prices", {"openai/*": {"input": 9}}),
    ({"models": {"m": "openai/x"}, "prices": {"m": {"input": 9}}}, "prices", {"openai/x": {"input": 9}}),
    ({"end_of_life": {"dall-e-3": None}}, "end_of_life", {"openai/dall-e-3": None}),
]


@pytest.mark.parametrize(("given", "field", "meant"), MEANT)
def test_short_names_in_the_settings(given: dict[str, Any], field: str, meant: Any) -> None:
    assert getattr(config_from(AiOptions.model_validate(given)), field) == meant


MEANINGLESS: list[tuple[dict[str, Any], str]] = [
    ({"models": {"x": "gtp"}}, "models.x: 'gtp' is no model"),
    ({"models": {"a": "b", "b": "a"}}, "models.a: leads to itself (a to b); name PROVIDER/MODEL"),
    ({"models": {"a": "a"}}, "models.a: leads to itself"),
    ({"models": {"a": "azure/x"}}, "models.a: 'azure/x' is no model: there is no provider 'azure'"),
    ({"fallbacks": {"gpt-4o": ["nix"]}}, "fallbacks.gpt-4o: 'nix' is no model"),
    ({"fallbacks": {"nix": ["gpt-4o"]}}, "fallbacks.nix: 'nix' is no model"),
    ({"limits": {"gpt4o": {"requests_per_minute": 1}}}, "limits.gpt4o: 'gpt4o' is no model; did you mean gpt-4o"),
    ({"limits": {"azure/*": {"requests_per_minute": 1}}}, "limits.azure/*: 'azure/*' is no model"),
    ({"prices": {"*": {"input": 1}}}, "prices.*: '*' is no model"),
    ({"prices": {"gpt-4o": {"input": 1}, "openai/gpt-4o": {"input": 2}}}, "openai/gpt-4o, as gpt-4o does; write one"),
    ({"end_of_life": {"openai": None}}, "end_of_life.openai: 'openai' is no model"),
    ({"end_of_life": {"openai/*": None}}, "end_of_life.openai/*: 'openai/*' is no model"),
    ({"budgets": [{"usd": 1, "model": "azure/x"}]}, "budgets.0.model: 'azure/x' is no model"),
]


@pytest.mark.parametrize(("given", "says"), MEANINGLESS)
def test_a_name_in_the_settings_that_is_of_nothing(given: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        ends.warnings(AiOptions.model_validate(given))
    assert str(caught.value).startswith("FOURLANE_AI: ")
    assert says in str(caught.value)


def test_a_model_that_is_asked_is_warned_of_once_a_day(caplog: pytest.LogCaptureFixture) -> None:
    config = AiConfig(end_of_life={"openai/warned-of": SOON, "openai/not-warned-of": LATER})
    with caplog.at_level(logging.WARNING):
        for full in ("openai/warned-of", "openai/warned-of", "openai/not-warned-of"):
            ends.warn(config, full)
    assert caplog.messages == [f"openai/warned-of will be retired on {SOON}; use another model"]
