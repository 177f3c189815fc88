"""FOURLANE_AI: what would do nothing, or something else than it says, is a fault with its place."""

from __future__ import annotations

import pytest

from fourlane.config import load_settings
from fourlane.errors import SettingsError

REFUSED = [
    ('{"limits": {"openai": {"rpm": 5}}}', "limits.openai: rpm: there is no such limit; did you mean requests_per_min"),
    ('{"limits": {"openai": {"request_per_minute": 5}}}', "did you mean requests_per_minute?"),
    ('{"limits": {"openai": {"colour": 5}}}', "colour: there is no such limit; there are requests_per_minute, tokens"),
    ('{"limits": {"openai": {}}}', "limits.openai: is empty; write"),
    ('{"limits": {"openai": {"requests_per_minute": true}}}', "requests_per_minute: true is no number"),
    ('{"limits": {"openai": {"requests_per_minute": 0.5}}}', "requests_per_minute: 0.5 cannot be counted"),
    ('{"limits": {"openai": {"requests_per_minute": -1}}}', "requests_per_minute: -1 cannot be counted"),
    ('{"limits": {"openai": {"timeout_seconds": 0}}}', "timeout_seconds: 0 is no time to wait"),
    ('{"limits": {"openai": {"total_seconds": 1e400}}}', "limits.openai.total_seconds: "),
    ('{"limits": {"openai": {"first_seconds": NaN}}}', "limits.openai.first_seconds: "),
    ('{"base_urls": {"azure": "https://x"}}', "base_urls.azure: "),
    ('{"base_urls": {"openai": "ftp://x"}}', "base_urls.openai: is no http or https URL; write one"),
    ('{"base_urls": {"openai": ""}}', "base_urls.openai: is no http or https URL"),
    ('{"base_urls": {"openai": "http://"}}', "base_urls.openai: is no http or https URL"),
    ('{"base_urls": {"openai": "http://x y"}}', "base_urls.openai: is no http or https URL"),
    ('{"prices": {"openai/x": {}}}', "prices.openai/x: is empty, and would make all calls free"),
    ('{"prices": {"openai/x": {"input": true}}}', "prices.openai/x.input: true is no number"),
    ('{"prices": {"openai/x": {"input": 1e400}}}', "prices.openai/x.input: "),
    ('{"budgets_usd": {"a": true}}', "budgets_usd.a: true is no number"),
    ('{"budgets": [{"usd": true}]}', "budgets.0.usd: true is no number"),
    ('{"unpriced_usd": true}', "unpriced_usd: true is no number"),
    ('{"warn_at": true}', "warn_at: true is no number"),
    ('{"batch_wait_seconds": false}', "batch_wait_seconds: false is no number"),
    ('{"log_rows": 1}', "log_rows: "),
    ('{"budgets": [{"usd": 1, "per": "day"}, {"usd": 2, "per": "day"}]}', "budgets: two are of the same: per day"),
    ('{"budgets": [{"usd": 1, "tenant": "a"}, {"usd": 2, "tenant": "a"}]}', "the same: per month, tenant a; write one"),
    ('{"budgets_usd": {"a": 1}, "budgets": [{"usd": 2, "tenant": "a"}]}', "both bound tenant a per month; write one"),
    ('{"warn_at": 0.5, "warn_at": 0.6}', "'warn_at' is written twice; write it once"),
    ('{"budgets_usd": {"a": 1, "a": 2}}', "'a' is written twice"),
]


@pytest.mark.parametrize(("value", "says"), REFUSED)
def test_what_would_do_nothing_is_a_fault(monkeypatch: pytest.MonkeyPatch, value: str, says: str) -> None:
    monkeypatch.setenv("FOURLANE_AI", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith("FOURLANE_AI: ")
    assert says in str(caught.value)


TAKEN = [
    '{"limits": {"openai": {"requests_per_minute": 0, "timeout_seconds": 0.5}}}',
    '{"budgets": [{"usd": 1}, {"usd": 1, "per": "day"}, {"usd": 1, "tenant": "a"}], "budgets_usd": {"b": 0}}',
    '{"base_urls": {"openai": "http://127.0.0.1:1/v1"}, "prices": {"openai/*": {"input": 0}}}',
]


@pytest.mark.parametrize("value", TAKEN)
def test_what_does_something_is_taken(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("FOURLANE_AI", value)
    assert load_settings().ai.model_fields_set
