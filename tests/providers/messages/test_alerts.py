"""Alerts as Slack and PagerDuty get them: what strangers wrote is neither markup nor without bounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fourlane.providers import http
from fourlane.providers.messages import Link, Message, PagerDuty, Slack
from tests.http_server import Reply, Request, serving


@pytest.fixture
def sent() -> Iterator[tuple[str, list[Any]]]:
    bodies: list[Any] = []

    def answer(request: Request) -> Reply:
        bodies.append(json.loads(request.body))
        return Reply(202, b"{}")

    with serving(answer) as url:
        yield url, bodies
    http.close()


@pytest.mark.parametrize(
    ("message", "text"),
    [
        # a mention of all, a link with another text, an entity that is none
        (Message(subject="<!channel>", text="x"), "*&lt;!channel&gt;*\nx"),
        (Message(text="<https://evil.example|your bank>"), "&lt;https://evil.example|your bank&gt;"),
        (Message(text="<@U123> &lt; a & b"), "&lt;@U123&gt; &amp;lt; a &amp; b"),
        (Message(subject="https://a.example/?x=1&y=<2>"), "https://a.example/?x=1&amp;y=&lt;2&gt;"),
        (
            Message(text="x", links=[Link("https://a.example/?a=1&b=2", "a <b>")]),
            "x\n<https://a.example/?a=1&amp;b=2|a &lt;b&gt;>",
        ),
        # cut before it is escaped, so that no entity is cut
        (Message(text="<" * 100_000), "&lt;" * 8_000),
    ],
)
def test_slack_shows_it_and_obeys_nothing_of_it(sent: tuple[str, list[Any]], message: Message, text: str) -> None:
    url, bodies = sent
    Slack(url, timeout_seconds=5).send(message, key="k", since=None)
    assert bodies == [{"text": text}]


def test_pagerduty_gets_links_and_what_it_can_hold(sent: tuple[str, list[Any]]) -> None:
    url, bodies = sent
    message = Message(
        subject="s" * 5_000,
        text="t" * 100_000,
        source="o" * 5_000,
        incident="i" * 5_000,
        details={"all": "d" * 1_000_000},
        links=[Link("https://runbooks.example/a", "runbook"), Link("https://b.example")],
    )
    PagerDuty("R00", url=url, timeout_seconds=5).send(message, key="k", since=None)
    [body] = bodies
    assert len(json.dumps(body)) < 512_000
    assert (len(body["dedup_key"]), len(body["payload"]["summary"])) == (255, 1_024)
    assert body["links"] == [
        {"href": "https://runbooks.example/a", "text": "runbook"},
        {"href": "https://b.example", "text": "https://b.example"},
    ]
