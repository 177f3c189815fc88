"""Pure rules as tables, and templates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fourlane.config import load_settings
from fourlane.tasks.notifications import rules
from fourlane.tasks.notifications.notification import InvalidNotification, Notification, checked
from fourlane.tasks.notifications.templates import Templates

Write = Callable[..., None]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "zone", "hours", "until"),
    [
        ("2026-01-10 12:00", "UTC", ("22:00", "07:00"), None),
        ("2026-01-10 22:00", "UTC", ("22:00", "07:00"), "2026-01-11 07:00"),
        ("2026-01-10 03:00", "UTC", ("22:00", "07:00"), "2026-01-10 07:00"),
        ("2026-01-10 07:00", "UTC", ("22:00", "07:00"), None),
        ("2026-01-10 13:30", "UTC", ("13:00", "14:00"), "2026-01-10 14:00"),
        ("2026-01-10 12:59", "UTC", ("13:00", "14:00"), None),
        ("2026-01-10 21:30", "Europe/Vienna", ("22:00", "07:00"), "2026-01-11 06:00"),
        ("2026-01-10 03:30", "America/New_York", ("22:00", "07:00"), "2026-01-10 12:00"),
        ("2026-03-28 22:00", "Europe/Vienna", ("22:00", "07:00"), "2026-03-29 05:00"),  # the clocks go forward
        ("2026-03-29 00:30", "Europe/Vienna", ("00:00", "02:30"), "2026-03-29 01:30"),  # an end that never comes
        ("2026-10-25 00:10", "Europe/Vienna", ("01:00", "02:30"), "2026-10-25 00:30"),  # an end that comes twice
        ("2026-10-25 01:10", "Europe/Vienna", ("01:00", "02:30"), "2026-10-25 01:30"),
        ("2026-01-10 12:00", "UTC", ("07:00", "07:00"), None),
        ("2026-01-10 23:00", "Mars/Olympus", ("22:00", "07:00"), "2026-01-11 07:00"),
        ("2026-01-10 23:00", "UTC", ("25:00", "07:00"), None),
        ("2026-01-10 23:00", "UTC", (None, "07:00"), None),
    ],
)
def test_quiet_hours(now: str, zone: str, hours: tuple[Any, Any], until: str | None) -> None:
    assert rules.quiet_until(at(now), zone, *hours) == (None if until is None else at(until))


def test_when_a_limit_has_room_again() -> None:
    now = at("2026-01-10 12:00")
    sent = [now - timedelta(seconds=50), now - timedelta(seconds=20), now - timedelta(seconds=10)]
    assert rules.free_at(sent, 4, 60_000) is None
    assert rules.free_at(sent, 3, 60_000) == now + timedelta(seconds=10)
    assert rules.free_at(sent, 1, 60_000) == now + timedelta(seconds=50)


@pytest.mark.parametrize(
    "address",
    ["ada@example.com", "a.b+c@sub.example.co", "ADA@EXAMPLE.COM", "ada@grüße.example", "o'brien@example.ie"],
)
def test_what_is_an_email_address(address: str) -> None:
    assert checked("email", {"to": address, "text": "x"}).to == address


@pytest.mark.parametrize(
    "address",
    [
        *("", "ada", "@example.com", "ada@", "ada@example", "a b@example.com", "ada@ex..com", "ada@-x.com"),
        *("Ada <ada@example.com>", "ada@example.com,bob@example.com", "a..b@example.com", "ada@127.0.0.1"),
        *("ada@example.com\r\nBcc: x@example.com", "ada@example.com\n", f"{'a' * 65}@example.com"),
    ],
)
def test_what_is_none(address: str) -> None:
    with pytest.raises(InvalidNotification):
        checked("email", {"to": address, "text": "x"})


@pytest.mark.parametrize("number", ["+4915112345678", "+12025550123"])
def test_what_is_a_phone_number(number: str) -> None:
    assert checked("sms", {"to": number, "text": "x"}).to == number


@pytest.mark.parametrize("number", ["015112345678", "+0151", "+49 151 123", "+49151123456789012", "+4915112345678\n"])
def test_what_is_no_phone_number(number: str) -> None:
    with pytest.raises(InvalidNotification, match="no phone number"):
        checked("sms", {"to": number, "text": "x"})


# --- Templates -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "welcome.txt": "Hi {{ name }}",
        "welcome.subject.txt": "Welcome,\n {{ name }}",
        "welcome.html": "<p>Hi {{ name }}",
        "welcome.de.txt": "Hallo {{ name }}",
        "welcome.de.subject.txt": "Willkommen",
        "welcome.de-AT.txt": "Servus {{ name }}",
        "deep/in.txt": "x",
        "wrong.txt": "{% if %}",
        "spy.txt": "{{ name.__class__.__mro__ }}",
        "loop.txt": "{% for i in items %}{{ i.what }};{% endfor %}",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def words(folder: Path, template: str, locale: str = "", **data: Any) -> tuple[str, str, str]:
    made = Templates(folder).words(Notification(template=template, data=data, locale=locale), {})
    return made.subject, made.text, made.html


@pytest.mark.parametrize(
    ("locale", "expected"),
    [
        ("", ("Welcome, <b>", "Hi <b>", "<p>Hi &lt;b&gt;")),
        ("fr", ("Welcome, <b>", "Hi <b>", "<p>Hi &lt;b&gt;")),
        ("de", ("Willkommen", "Hallo <b>", "")),  # no English HTML beside a German text
        ("de-CH", ("Willkommen", "Hallo <b>", "")),
        ("de_AT", ("", "Servus <b>", "")),
    ],
)
def test_a_template_in_the_best_language(folder: Path, locale: str, expected: tuple[str, str, str]) -> None:
    assert words(folder, "welcome", locale, name="<b>") == expected


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("none", "there is no template 'none'"),
        ("welcome", r"template welcome\.txt: 'name' is undefined"),
        ("wrong", r"template wrong\.txt: .*\(line 1\)"),
        ("loop", "'items' is undefined"),
    ],
)
def test_a_template_that_cannot_be_used(folder: Path, template: str, reason: str) -> None:
    with pytest.raises(InvalidNotification, match=reason):
        words(folder, template)


def test_a_template_is_in_a_sandbox(folder: Path) -> None:
    with pytest.raises(InvalidNotification, match="__class__"):
        words(folder, "spy", name="x")


@pytest.mark.parametrize(
    ("given", "expected"),
    [("eu", "https://events.eu.pagerduty.com"), ("US", "https://events.pagerduty.com"), ("http://x", "http://x")],
)
def test_pagerduty_by_its_region(monkeypatch: pytest.MonkeyPatch, given: str, expected: str) -> None:
    monkeypatch.setenv("FOURLANE_PAGERDUTY_URL", given)
    assert load_settings().pagerduty_url == expected


@pytest.mark.parametrize(
    ("kept", "counts"),
    [
        # category and tenant of what is kept, and which of it counts for news of the tenant a
        ([], None),
        ([("*", ""), ("news", "")], ("news", "")),
        ([("news", ""), ("news", "a")], ("news", "a")),
        ([("*", "a"), ("news", "")], ("news", "")),  # the category before the tenant
        ([("*", ""), ("*", "a")], ("*", "a")),
        ([("bills", "a")], None),
    ],
)
def test_the_preference_that_counts(kept: list[tuple[str, str]], counts: tuple[str, str] | None) -> None:
    found = rules.that_counts([SimpleNamespace(category=c, tenant=t) for c, t in kept], "news")
    assert (None if found is None else (found.category, found.tenant)) == counts
