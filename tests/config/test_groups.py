"""What the settings of a part may be, and how a fault is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fourlane.config import Settings, load_settings
from fourlane.config.groups.jobs import QueueLimit
from fourlane.config.groups.storage import Place
from fourlane.errors import SettingsError
from fourlane.redact import without_secrets
from tests.config.asked import faults


@pytest.mark.parametrize("url", ["redis://h", "rediss://:p@h:1/2", "unix:///run/redis.sock?db=1"])
def test_every_scheme_of_redis_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)

    redis_url = load_settings().redis_url

    assert redis_url is not None
    assert redis_url.get_secret_value() == url


def test_limits_are_typed_and_carry_full_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_ENVIRONMENT", "staging")
    monkeypatch.setenv(
        "FOURLANE_LIMITS",
        json.dumps(
            {
                "jobs.high.images": {"rate": 10, "burst": 20},
                "staging.jobs.low.reports": {"rate": 5, "per_ms": 60_000, "concurrency": 2},
                "emails": {"concurrency": 3},  # as dramatiq programs name a queue
            }
        ),
    )

    assert load_settings().limits == {
        "staging.jobs.high.images": QueueLimit(rate=10, per_ms=1000, burst=20, concurrency=None),
        "staging.jobs.low.reports": QueueLimit(rate=5, per_ms=60_000, burst=None, concurrency=2),
        "staging.jobs.normal.emails": QueueLimit(concurrency=3),
    }


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        (
            "{",
            "is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1); "
            'write {"jobs.high.SERVICE": {"rate": 10, "per_ms": 1000}}',
        ),
        ("[]", 'is not a JSON object; write {"jobs.high.SERVICE": {"rate": 10, "per_ms": 1000}}'),
        ('{"jobs.high.a": 5}', 'jobs.high.a: is not an object; write {"rate": 10}'),
        ('{"jobs.high.a": {"rate": "x"}}', "jobs.high.a: rate: 'x' is not a whole number; use 1 or more"),
        ('{"jobs.high.a": {"rate": 0}}', "jobs.high.a: rate: 0 is too small; use 1 or more"),
        (
            '{"jobs.high.a": {"rate": 1, "bursts": 2}}',
            "jobs.high.a: bursts: is not known; use rate, per_ms, burst, concurrency",
        ),
        ('{"jobs.high.a": {}}', "jobs.high.a: has no rate; give one, or a concurrency alone"),
        (
            '{"jobs.high.a": {"burst": 2, "concurrency": 1}}',  # the burst would mean nothing
            "jobs.high.a: has no rate; give one, or a concurrency alone",
        ),
        (
            '{"jobs.urgent.a": {"rate": 1}}',
            "jobs.urgent.a: 'urgent' is no tier; use P0, P1, P2, P3 or high, normal, low, scheduled",
        ),
        (
            '{"production.jobs.high.a": {"rate": 1}}',
            "production.jobs.high.a: queue 'production.jobs.high.a' belongs to the environment 'production', "
            "but this one is 'local'",
        ),
        (
            '{"jobs.high.a": {"rate": 1}, "local.jobs.high.a": {"rate": 2}}',
            "names a queue twice, in full and without its environment; keep one of them",
        ),
    ],
)
def test_faults_in_limits(monkeypatch: pytest.MonkeyPatch, limits: str, line: str) -> None:
    monkeypatch.setenv("FOURLANE_LIMITS", limits)

    assert faults() == [f"FOURLANE_LIMITS: {line}"]


@pytest.mark.parametrize(
    ("networks", "fault"),
    [
        ("abc", "is not JSON: Expecting value"),
        ("[1]", "is not a JSON object"),
        ('{"stripe": 5}', "does not name networks by provider"),
        ('{"stripe": ["somewhere"]}', "'somewhere' does not appear to be an IPv4 or IPv6 network"),
        ('{"stripe": ["3.18.12.63/8"]}', "has host bits set"),
    ],
)
def test_faults_in_networks(monkeypatch: pytest.MonkeyPatch, networks: str, fault: str) -> None:
    monkeypatch.setenv("FOURLANE_WEBHOOK_ALLOW_FROM", networks)

    [line] = faults()
    assert line.startswith("FOURLANE_WEBHOOK_ALLOW_FROM: ")
    assert fault in line


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        ('{"mail": {"rate": 1}}', "mail: 'mail' is no channel with users; use email, sms, push"),
        ('{"sms": {"rate": 1, "burst": 2}}', "sms: burst: is not known; use rate, per_ms"),
        ('{"sms": {}}', 'sms: has no rate; write {"rate": 5, "per_ms": 86400000}'),
        ('{"sms": 5}', 'sms: is not an object; write {"rate": 5, "per_ms": 86400000}'),
    ],
)
def test_faults_in_limits_of_users(monkeypatch: pytest.MonkeyPatch, limits: str, line: str) -> None:
    monkeypatch.setenv("FOURLANE_NOTIFICATION_USER_LIMITS", limits)

    assert faults() == [f"FOURLANE_NOTIFICATION_USER_LIMITS: {line}"]


@pytest.mark.parametrize(
    ("place", "read"),
    [
        ("database", Place("database", "database")),
        ("disk:/data/files", Place("disk", "disk:/data/files", folder=Path("/data/files"))),
        ("disk:files", Place("disk", "disk:files", folder=Path("files"))),
        ("s3://files/a/b/", Place("s3", "s3://files/a/b/", bucket="files", prefix="a/b")),
        (
            "s3://files/a?endpoint=https://x.r2.example&region=eu",
            Place(
                "s3",
                "s3://files/a?endpoint=https://x.r2.example&region=eu",
                bucket="files",
                prefix="a",
                endpoint="https://x.r2.example",
                region="eu",
            ),
        ),
    ],
)
def test_places_for_files(monkeypatch: pytest.MonkeyPatch, place: str, read: Place) -> None:
    monkeypatch.setenv("FOURLANE_STORAGE", place)
    assert load_settings().storage == read


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("/data", "'/data' is no place for files; use disk:/FOLDER, s3://BUCKET/PREFIX or database"),
        ("database:x", "'database' is no place for files; use disk:/FOLDER, s3://BUCKET/PREFIX or database"),
        ("disk:", "names no folder; write disk:/FOLDER"),
        ("s3://files", "has no prefix; write s3://files/PREFIX, with one that nobody else uses"),
        ("s3://files/", "has no prefix; write s3://files/PREFIX, with one that nobody else uses"),
        ("s3:///x", "'' is no bucket; write s3://BUCKET/PREFIX"),
        ("s3:files/x", "'' is no bucket; write s3://BUCKET/PREFIX"),
        ("s3://Files/x", "'Files' is no bucket; write s3://BUCKET/PREFIX"),
        ("s3://files/../x", "'../x' is no prefix; use letters, digits, - _ . and /"),
        ("s3://key:hush@files/x", "has a key in it; write s3://BUCKET/PREFIX, and the key into FOURLANE_STORAGE_KEYS"),
        ("s3://files/x?profile=y", "its option profile is not known; use endpoint and region"),
        ("s3://files/x?endpoint=host", "its endpoint is none; write s3://BUCKET/PREFIX?endpoint=https://HOST"),
        (
            "s3://files/x?endpoint=https://u:hush@host",
            "its endpoint is none; write s3://BUCKET/PREFIX?endpoint=https://HOST",
        ),
    ],
)
def test_what_is_no_place_for_files(monkeypatch: pytest.MonkeyPatch, place: str, line: str) -> None:
    monkeypatch.setenv("FOURLANE_STORAGE", place)
    assert faults() == [f"FOURLANE_STORAGE: {line}"]


@pytest.mark.parametrize("keys", ["hush", ":hush", "hush:", " : "])
def test_what_are_no_keys_of_a_bucket(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    monkeypatch.setenv("FOURLANE_STORAGE_KEYS", keys)
    assert faults() == ["FOURLANE_STORAGE_KEYS: is not KEY:SECRET; write an access key, a colon and its secret"]


WHOLE_NUMBERS = [field for field, info in Settings.model_fields.items() if info.annotation in (int, int | None)]


def test_there_are_whole_numbers() -> None:
    assert len(WHOLE_NUMBERS) > 30


@pytest.mark.parametrize("field", WHOLE_NUMBERS)
def test_a_number_that_no_part_could_take_is_refused(field: str) -> None:
    with pytest.raises(SettingsError, match=r"(too large|does not fit|is no port); use"):
        load_settings(**{field: 10**20})


@pytest.mark.parametrize("value", ["[" * 20_000, '{"a":' * 20_000])
@pytest.mark.parametrize("name", ["WEBHOOK_ALLOW_FROM", "LIMITS", "MAINTENANCE", "AI", "NOTIFICATION_USER_LIMITS"])
def test_json_nested_too_deeply_is_a_fault_like_another(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"FOURLANE_{name}", value)
    with pytest.raises(SettingsError, match=f"FOURLANE_{name}: "):
        load_settings()


@pytest.mark.parametrize(
    "given",
    ["sk-abcdefgh1234\n", "sk-abcdefgh1234\r\n", ' "sk-abcdefgh1234" ', "'sk-abcdefgh1234'", "\ufeffsk-abcdefgh1234"],
)
def test_a_key_is_taken_as_it_was_meant(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", given)
    key = load_settings().openai_api_key
    assert key is not None
    assert key.get_secret_value() == "sk-abcdefgh1234"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (" \n", "OPENAI_API_KEY: is empty but for white space or quotes; copy the key anew, or remove it"),
        ('""', "OPENAI_API_KEY: is empty but for white space or quotes; copy the key anew, or remove it"),
        ("sk-hush\nhush", "OPENAI_API_KEY: character 8 of 12 is none that a key can have; copy the key anew"),
        ("sk-hush hush", "OPENAI_API_KEY: character 8 of 12 is none that a key can have; copy the key anew"),
        ("sk-hush\u2026", "OPENAI_API_KEY: character 8 of 8 is none that a key can have; copy the key anew"),
        ("sk-hush...", "OPENAI_API_KEY: stands in the place of a key; write the key, or remove it"),
        ("changeme", "OPENAI_API_KEY: stands in the place of a key; write the key, or remove it"),
    ],
)
def test_a_key_that_is_none_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, given: str, says: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", given)
    assert faults() == [says]


def test_secrets_of_the_settings_are_known_when_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPLEXITY_API_KEY", "no-form-of-a-key-1\n")
    monkeypatch.setenv("REDIS_URL", "redis://user:pass%2Fword17@host:6379/0")
    monkeypatch.setenv("FOURLANE_STRIPE_WEBHOOK_SECRETS", "abcdef0123,ghijkl4567")
    load_settings()
    text = "host:6379 a no-form-of-a-key-1 b pass/word17 c pass%2Fword17 d ghijkl4567"
    assert without_secrets(text) == "host:6379 a [redacted] b [redacted] c [redacted] d [redacted]"
