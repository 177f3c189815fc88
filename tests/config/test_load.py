"""Where settings come from, and what is said of names and files that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from fourlane.config import Settings, load_settings
from fourlane.config.groups.jobs import QueueLimit
from fourlane.errors import SettingsError
from tests.config.asked import described, faults, write


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("FOURLANE_SLOTS", "16", "slots", 16),
        ("FOURLANE_GRACE_SECONDS", "0", "grace_seconds", 0),  # stop at once
        ("FOURLANE_HARD_TIMEOUT_MS", "5000", "hard_timeout_ms", 5000),
        ("FOURLANE_LOG_JOBS", "true", "log_jobs", True),
        ("FOURLANE_LOG_LEVEL", "WARN", "log_level", "WARN"),
        ("FOURLANE_DATA_DIR", "/var/lib/fourlane", "data_dir", Path("/var/lib/fourlane")),
        ("FOURLANE_SERVICE", "image-processing", "service", "image-processing"),
        ("FOURLANE_ENVIRONMENT", "staging", "environment", "staging"),
        ("FOURLANE_ENVIRONMENT", "preview", "environment", "staging"),  # the platform's other word
        ("STRIPE_PUBLISHABLE_KEY", "pk_1", "stripe_publishable_key", "pk_1"),
        ("STRIPE_PUBLISHABLE_KEY", "", "stripe_publishable_key", None),  # empty is absent
    ],
)
def test_a_variable_becomes_a_typed_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, field: str, expected: object
) -> None:
    monkeypatch.setenv(variable, value)

    assert getattr(load_settings(), field) == expected


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("FOURLANE_SLOTS", "eight", "FOURLANE_SLOTS: 'eight' is not a whole number; use 1 or more"),
        ("FOURLANE_PROBE_PORT", "http", "FOURLANE_PROBE_PORT: 'http' is no port; use 1 to 65535, or 0 for none"),
        ("FOURLANE_PROBE_PORT", "70000", "FOURLANE_PROBE_PORT: '70000' is no port; use 1 to 65535, or 0 for none"),
        ("FOURLANE_SLOTS", "0", "FOURLANE_SLOTS: '0' is too small; use 1 or more"),
        ("FOURLANE_MAX_RETRIES", "-1", "FOURLANE_MAX_RETRIES: '-1' is too small; use 0 or more"),
        *(
            (variable, value, f"{variable}: {value!r} does not fit; use a whole number from 1024 to 536870912")
            for variable in ("FOURLANE_MAX_RESULT_BYTES", "FOURLANE_MAX_BODY_BYTES")
            for value in ("0", "-1", "536870913")
        ),
        (  # longer than the job's own limit
            "FOURLANE_WEBHOOK_TIMEOUT_SECONDS",
            "60",
            "FOURLANE_WEBHOOK_TIMEOUT_SECONDS: '60' is too large; use 1 to 59",
        ),
        (
            "FOURLANE_WEBHOOK_TIMEOUT_SECONDS",
            "0",
            "FOURLANE_WEBHOOK_TIMEOUT_SECONDS: '0' is too small; use 1 to 59",
        ),
        ("FOURLANE_SLOTS", "", "FOURLANE_SLOTS: is empty; give it a value or remove it"),
        ("FOURLANE_ENVIRONMENT", "", "FOURLANE_ENVIRONMENT: is empty; give it a value or remove it"),
        (
            "FOURLANE_ENVIRONMENT",
            "prod",
            "FOURLANE_ENVIRONMENT: 'prod' is no environment; use local, staging or production",
        ),
        (
            "FOURLANE_ENCRYPTION_KEYS",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,c2hvcnQ=",
            "FOURLANE_ENCRYPTION_KEYS: key 2 is not 32 bytes in base64; `openssl rand -base64 32` makes one",
        ),
        ("FOURLANE_LOG_JOBS", "maybe", "FOURLANE_LOG_JOBS: 'maybe' is not a switch; use true or false"),
        (
            "FOURLANE_LOG_LEVEL",
            "LOUD",
            "FOURLANE_LOG_LEVEL: 'LOUD' is no log level; use DEBUG, INFO, WARN or ERROR",
        ),
        (
            "FOURLANE_NAMESPACE",
            "{a}",  # braces would break the hash tag of the keys
            "FOURLANE_NAMESPACE: '{a}' is no namespace; use letters, digits, - and _, at most 63",
        ),
        (
            "FOURLANE_SERVICE",
            "a.b",
            "FOURLANE_SERVICE: 'a.b' is no service name: letters, digits, - and _, at most 63 characters, "
            "the first a letter or _",
        ),
        ("FOURLANE_SLOT", "3", "FOURLANE_SLOT: there is no such setting; did you mean FOURLANE_SLOTS?"),
        # A platform name with our prefix: the closest one has none.
        (
            "FOURLANE_REDIS_URL",
            "redis://h",
            "FOURLANE_REDIS_URL: there is no such setting; did you mean REDIS_URL?",
        ),
        (
            "REDIS_URL",
            "http://user:hush@h",
            "REDIS_URL: has no scheme that Redis knows; begin it with redis://, rediss:// or unix://",
        ),
        (
            "FOURLANE_ENVIRONMENT",
            "production",  # with no REDIS_URL
            "REDIS_URL: is not set, and production needs it; set it to rediss://…",
        ),
    ],
)
def test_a_fault_is_a_line_with_the_variable_and_the_fix(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, line: str
) -> None:
    monkeypatch.setenv(variable, value)

    assert faults() == [line]


@pytest.mark.parametrize("name", ["FOURLANE", "FOURLANE_WORKER", "FOURLANE_SERVICE"])
@pytest.mark.parametrize(("address", "shown"), [("10.0.0.11", "10.0.0.11"), ("fd00::b", "[fd00::b]")])
def test_what_kubernetes_sets_for_a_service_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, name: str, address: str, shown: str
) -> None:
    links = {
        "SERVICE_HOST": address,
        "SERVICE_PORT": "80",
        "SERVICE_PORT_HTTP": "80",
        "PORT": f"tcp://{shown}:80",
        "PORT_80_TCP": f"tcp://{shown}:80",
        "PORT_80_TCP_PROTO": "tcp",
        "PORT_80_TCP_PORT": "80",
        "PORT_80_TCP_ADDR": address,
    }
    for end, value in links.items():
        monkeypatch.setenv(f"{name}_{end}", value)

    assert load_settings().service == "default"


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("FOURLANE_PORT", "8080", "FOURLANE_PORT: there is no such setting; did you mean FOURLANE_PROBE_PORT?"),
        (
            "FOURLANE_SERVICE_HOST",
            "a host",
            "FOURLANE_SERVICE_HOST: there is no such setting; did you mean FOURLANE_SERVICE?",
        ),
        (
            "FOURLANE_PROBE_PORT",
            "tcp://10.0.0.11:80",
            "FOURLANE_PROBE_PORT: 'tcp://10.0.0.11:80' is what Kubernetes sets for a Service of this name; "
            "set enableServiceLinks: false, or a port",
        ),
    ],
)
def test_what_only_looks_like_kubernetes_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, line: str
) -> None:
    monkeypatch.setenv(variable, value)

    assert faults() == [line]


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_SLOTS", "eight")
    monkeypatch.setenv("FOURLANE_ENVIRONMENT", "production")
    write("production", "FOURLANE_PROCESES=2", "FOURLANE_CRASH_LIMIT=0")

    assert [line.partition(":")[0] for line in faults(slotz=1)] == [
        "FOURLANE_PROCESES",
        "slotz",
        "REDIS_URL",
        "FOURLANE_CRASH_LIMIT",
        "FOURLANE_SLOTS",
    ]


def test_production_with_redis_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_ENVIRONMENT", "production")
    write("production", "REDIS_URL=rediss://h")

    assert load_settings().environment == "production"


def test_override_wins_over_environment_over_file_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        "local",
        "FOURLANE_SLOTS=2",
        "FOURLANE_PROCESSES=2",
        "FOURLANE_CRASH_LIMIT=2",
        "REDIS_URL=redis://file",
    )
    for name in ("FOURLANE_SLOTS", "FOURLANE_PROCESSES"):
        monkeypatch.setenv(name, "3")
    monkeypatch.setenv("REDIS_URL", "redis://process")

    settings = load_settings(slots=4, redis_url="redis://given")

    shown = described(settings)
    assert shown["FOURLANE_SLOTS"] == ("4", "override")
    assert shown["FOURLANE_PROCESSES"] == ("3", "environment")
    assert shown["FOURLANE_CRASH_LIMIT"] == ("2", ".env.local")
    assert shown["FOURLANE_MAX_RETRIES"] == ("5", "default")
    assert shown["REDIS_URL"] == ("redis://given", "override")


def test_the_settings_read_the_environment_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_SLOTS", "3")
    monkeypatch.setenv("redis_url", "redis://process")

    settings = Settings()

    assert isinstance(settings, BaseSettings)
    assert settings.slots == 3
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://process"


def test_an_empty_platform_variable_leaves_the_file_to_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    write("local", "REDIS_URL=redis://file")
    monkeypatch.setenv("REDIS_URL", "")

    assert described(load_settings())["REDIS_URL"] == ("redis://file", ".env.local")


def test_limits_of_the_environment_replace_those_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write("local", """FOURLANE_LIMITS='{"jobs.high.a": {"rate": 1}}'""")
    monkeypatch.setenv("FOURLANE_LIMITS", '{"jobs.high.b": {"rate": 2}}')

    assert load_settings().limits == {"local.jobs.high.b": QueueLimit(rate=2)}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [("local", 1), ("staging", 2), ("preview", 2), ("production", 3)],
)
def test_the_environment_chooses_the_file(monkeypatch: pytest.MonkeyPatch, environment: str, expected: int) -> None:
    write("local", "FOURLANE_SLOTS=1")
    write("staging", "FOURLANE_SLOTS=2")
    write("production", "FOURLANE_SLOTS=3", "REDIS_URL=redis://h")

    assert load_settings(environment=environment).slots == expected
    monkeypatch.setenv("FOURLANE_ENVIRONMENT", environment)
    assert load_settings().slots == expected


def test_a_file_cannot_choose_the_environment() -> None:
    write("local", "FOURLANE_ENVIRONMENT=production")

    assert faults() == ["FOURLANE_ENVIRONMENT: .env.local cannot set it; set it in the process environment"]


def test_a_file_may_repeat_its_environment() -> None:
    write("staging", "FOURLANE_ENVIRONMENT=preview")

    assert load_settings(environment="staging").environment == "staging"


def test_a_file_may_hold_names_of_others() -> None:
    write("local", "NEXT_PUBLIC_SITE=x", "SLOTS=9", "FOURLANE_SLOTS=2", "PROCESSES=9")

    settings = load_settings()

    assert (settings.slots, settings.processes) == (2, 1)


def test_a_file_that_is_not_text_is_a_fault() -> None:
    Path(".env.local").write_bytes(b"STRIPE_SECRET_KEY=\xff")

    assert faults() == [".env.local: is not UTF-8 text; save it as UTF-8"]


def test_an_override_by_an_unknown_name_is_a_fault() -> None:
    assert faults(REDIS_URL="redis://h") == ["REDIS_URL: there is no such setting; did you mean redis_url?"]


def test_an_environment_of_a_name_too_long_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_ENVIRONMENT", "x" * 300)
    with pytest.raises(SettingsError, match="is no environment; use local, staging or production"):
        load_settings()
