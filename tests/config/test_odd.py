"""Whatever a setting is set to: it is refused in a line, or it is shown; and never what opens an address."""

from __future__ import annotations

import json
import os
import string
from collections.abc import Mapping
from unittest import mock

import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fourlane.cli import main
from fourlane.config.settings import variables

S = "hush7Zq4Xw9"
NAMES = st.sampled_from(sorted(variables().values()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)
TOKEN = st.text(string.ascii_letters + "/?#[]@:&=%{}\"'., ", max_size=20)
ADDRESS = st.builds(
    "{}://{}".format, st.sampled_from(["http", "https", "redis", "s3", "postgresql", "unix", "disk"]), TOKEN
)
VALUES = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30),
    st.binary(max_size=12).map(lambda raw: os.fsdecode(raw.replace(b"\0", b""))),
    JSON.map(json.dumps),
    JSON.map(lambda value: json.dumps(value, ensure_ascii=False)),
    ADDRESS,
    st.integers().map(str),
    st.sampled_from(["NaN", "1e999", "-0", "1" * 5_000, "[" * 5_000, '{"a": 1, "a": 2}', "null", "\udcff"]),
)


def told(given: Mapping[str, str], *words: str) -> Result:
    with mock.patch.dict(os.environ, given):
        return CliRunner().invoke(main, ["config", *words])


def is_spoken(result: Result) -> bool:
    """It says all settings, or faults in a line each."""
    if result.exit_code == 0:
        return "FOURLANE_ENVIRONMENT" in result.stdout
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code == 1 and "error: " in result.stderr


@settings(max_examples=150, deadline=None)
@given(given=st.dictionaries(NAMES, VALUES, min_size=1, max_size=4), as_json=st.booleans())
@example(given={"FOURLANE_MAINTENANCE": '{"doctor": "off"}', "FOURLANE_WEBHOOK_ALLOW_FROM": "{}"}, as_json=False)
@example(given={"FOURLANE_EMAIL_FROM": "\udcff"}, as_json=False)
@example(given={"FOURLANE_EMAIL_FROM": "\udcff"}, as_json=True)
@example(given={"FOURLANE_AI": '{"models": {"\\ud800": "\\udfff"}}'}, as_json=False)
@example(given={"FOURLANE_AI": '{"budgets": [{"usd": "1e999999999"}]}'}, as_json=True)
def test_the_command_never_crashes(given: dict[str, str], as_json: bool) -> None:
    given = {name: value.replace("\0", "") for name, value in given.items()}
    words = ["--json"] if as_json else []
    assert is_spoken(told(given, *words))


AI = '{"base_urls": {"openai": "%s"}}'
ADDRESSES = [
    f"https://ada:{S}@host.example/v1",
    f"https://{S}@host.example/v1",
    f"https://host.example/v1?key={S}&n=1",
    f"https://host.example/v1?t={S}",
    f"https://host.example/v1#{S}",
    f"https://hooks.slack.com/services/T0/B0/{S}",
    f"https://discord.com/api/webhooks/17/{S}",
    f"https://fcm.googleapis.com/fcm/send/{S}",
    f"https://host.example/pplx-{S}{S}",
]
OF_ADDRESSES = [
    "NEXT_PUBLIC_SUPABASE_URL",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "FOURLANE_STRIPE_URL",
    "FOURLANE_PAYPAL_URL",
    "FOURLANE_UNSUBSCRIBE_URL",
    "FOURLANE_RESEND_URL",
    "FOURLANE_TWILIO_URL",
    "FOURLANE_TWILIO_STATUS_URL",
    "FOURLANE_PAGERDUTY_URL",
    "FOURLANE_AI",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("name", OF_ADDRESSES)
def test_no_address_is_shown_with_what_opens_it(name: str, address: str) -> None:
    value = AI % address if name == "FOURLANE_AI" else address
    for words in ([], ["--json"]):
        result = told({name: value}, *words)
        assert result.exit_code == 0
        assert S not in result.output
        assert address.partition("//")[2].rpartition("@")[2].partition("/")[0] in result.output  # the host


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FOURLANE_STORAGE", "s3://files/fourlane?endpoint=https://s3.example.com&region=eu-1"),
        ("FOURLANE_AI", '{"base_urls":{"openai":"https://x.example/deployments/y?api-version=2026-01-01"}}'),
        ("FOURLANE_UNSUBSCRIBE_URL", "https://example.com/out?lang=en"),
        ("FOURLANE_LIMITS", '{"local.jobs.high.key": {"rate": 10}}'),
        ("FOURLANE_VAPID_CONTACT", "mailto:ops@example.com"),
    ],
)
def test_the_rest_is_shown_as_it_was_written(name: str, value: str) -> None:
    assert f"  {value}  (environment)" in told({name: value}).stdout


def test_a_fault_shows_no_more_of_an_address() -> None:
    for address in (f"ftp://ada:{S}/x@h", f"ftp://h?key={S}"):
        result = told({"FOURLANE_AI": AI % address, "FOURLANE_SERVICE": address})
        assert result.exit_code == 1
        assert S not in result.output
