"""How settings are shown: secrets stay hidden."""

from __future__ import annotations

import traceback

import pytest

from fourlane.config import load_settings
from fourlane.errors import SettingsError
from tests.config.asked import PUBLIC, SECRETS, described


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (SECRETS | PUBLIC).items():
        monkeypatch.setenv(name, value)

    settings = load_settings()

    for text in (
        repr(settings),
        str(settings),
        str(settings.model_dump()),
        str(settings.model_dump(mode="json")),
        settings.model_dump_json(),
        str(settings.describe()),
    ):
        assert "hush" not in text
        assert "shown.supabase.co" in text
    shown = {variable: value for variable, (value, _) in described(settings).items()}
    assert shown["REDIS_URL"] == "rediss://redis.example:6380/2"
    assert shown["DATABASE_URL"] == "postgresql://db.example:5432/fourlane"
    for name in set(SECRETS) - {"REDIS_URL", "DATABASE_URL"}:
        assert shown[name] == "set (hidden)", name


def test_a_refused_secret_is_in_no_part_of_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "http://user:hush@h")

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert "hush" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FOURLANE_STRIPE_URL", "https://user:hush@stripe.example"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hush@collector.example:4318"),
        ("FOURLANE_AI", '{"base_urls": {"openai": "https://user:hush@ai.example/v1"}}'),
    ],
)
def test_a_login_in_any_url_is_hidden(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    shown, _ = described(load_settings())[variable]
    assert "hush" not in shown
    assert "[redacted]@" in shown


def test_a_fault_shows_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_ENVIRONMENT", "redis://user:hush@h")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:hush@h?db=3&password=hush", "redis://h?db=3"),
        ("unix://user@/run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("redis://user:hu@sh@[::1]:6379", "redis://[::1]:6379"),
        # Unescaped marks in a password end the host too early.
        ("redis://user:1/hush@h:6379/0", "set (hidden)"),
        ("redis://user:1?hush@h", "set (hidden)"),
        ("redis://user:1#hush@h", "set (hidden)"),
        ("redis://:hush", "set (hidden)"),
    ],
)
def test_a_url_is_shown_without_credentials(url: str, shown: str) -> None:
    assert described(load_settings(redis_url=url))["REDIS_URL"] == (shown, "override")


@pytest.mark.parametrize("url", ["user:hush", "user:hush://", "host=db password=hush", "user:hush@h/db"])
def test_a_database_url_that_is_none_is_hidden(url: str) -> None:
    assert described(load_settings(database_url=url))["DATABASE_URL"] == ("set (hidden)", "override")


def test_what_is_not_a_word_is_shown_as_one_would_write_it() -> None:
    shown = described(load_settings(log_jobs=True, limits={"jobs.high.a": {"rate": 10}}))

    assert shown["FOURLANE_LOG_JOBS"][0] == "true"
    assert shown["FOURLANE_LIMITS"][0] == '{"local.jobs.high.a": {"rate": 10}}'
    assert shown["FOURLANE_HARD_TIMEOUT_MS"] == ("not set", "default")
