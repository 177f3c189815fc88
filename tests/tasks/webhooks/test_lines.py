"""Which lines a delivery waits in."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourlane.config import load_settings, plain
from fourlane.queues.lines import Line, texts_of
from fourlane.tasks.webhooks import lines
from fourlane.tasks.webhooks.lines import lines_of_delivery, lines_to_endpoint, receiver_line, receiver_of


@pytest.mark.parametrize(
    ("url", "receiver"),
    [
        ("https://hook.example/a?b=1", "hook.example:443"),
        ("https://HOOK.example.:443/other", "hook.example:443"),
        ("http://hook.example", "hook.example:80"),
        ("https://user:hush@hook.example:8443/", "hook.example:8443"),
        ("http://[::1]:8080/", "::1:8080"),
        ("https://hook.example:many/", ""),
        ("https://[", ""),
        ("hook", ":0"),
        (None, ":0"),
    ],
)
def test_the_receiver_of_a_url(url: Any, receiver: str) -> None:
    assert receiver_of(url) == receiver


def test_a_delivery_waits_for_its_receiver_and_its_organization() -> None:
    url = "https://hook.example/"
    line = receiver_line(url, "acme")
    assert re.fullmatch("r:hook.example_443:[0-9a-f]{32}", line)
    assert lines_of_delivery([url, {}], {}, {"tenant": "acme"}) == [Line(line, 20), Line("t:acme", 100)]
    assert lines_of_delivery([], {"url": url}, {}) == [Line(receiver_line(url, ""), 20)]


def test_organizations_do_not_share_the_line_to_a_receiver() -> None:
    url = "https://hook.example/"
    assert len({receiver_line(url, tenant) for tenant in ("", "a", "b", "a:443", "a\0")}) == 5
    # However the parts are cut, they are not those of another.
    assert receiver_line("https://a:1/", "b") != receiver_line("https://a:1b/", "")


@pytest.mark.parametrize(
    ("kwargs", "options", "texts"),
    [
        ({}, {}, []),  # made before there were lines
        ({"endpoint_id": "ab", "places": 3}, {}, ["e:ab=3"]),
        ({"endpoint_id": "ab", "places": 3}, {"tenant": "acme"}, ["e:ab=3", "t:acme=100"]),
        (
            {"endpoint_id": "ab", "places": 3, "order": "cd"},
            {"tenant": "acme"},
            ["o:ab:cd=1!", "e:ab=3", "t:acme=100"],
        ),
    ],
)
def test_a_delivery_to_an_endpoint(kwargs: dict[str, Any], options: dict[str, Any], texts: list[str]) -> None:
    assert texts_of(lines_to_endpoint(["d"], kwargs, options)) == texts


@given(url=st.text(), tenant=st.text())
def test_no_url_and_no_tenant_is_a_line_that_is_refused(url: str, tenant: str) -> None:
    texts_of(lines_of_delivery([url], {}, {"tenant": tenant}))


def test_what_is_known_without_the_settings_is_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    known, settings = plain.Plain("redis://h"), load_settings(redis_url="redis://h")
    for name in ("webhook_tenant_concurrency", "webhook_receiver_concurrency"):
        assert getattr(known, name) == getattr(settings, name)
    monkeypatch.setenv("FOURLANE_WEBHOOK_TENANT_CONCURRENCY", "7")
    assert lines._shares_of(lines.Root()) == lines.Shares(7, 20)
