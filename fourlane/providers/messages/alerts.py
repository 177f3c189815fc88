"""Alerts to operators."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from fourlane.providers.messages.call import check, post_json
from fourlane.providers.messages.message import Message, OneAccount, Receipt

__all__ = ["PagerDuty", "Slack", "escaped"]

_TEXT_CHARACTERS: Final = 8_000
_DETAILS_CHARACTERS: Final = 100_000  # PagerDuty takes 512 kB in all
_MARKUP: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Slack(OneAccount):
    """Alerts to the channel of an incoming webhook."""

    provider = "slack"

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        super().__init__(url)
        self._url = url
        self._timeout_seconds = timeout_seconds

    def send(self, message: Message, *, key: str, since: datetime | None) -> Receipt:
        subject, text = escaped(message.subject), escaped(message.text)
        text = f"*{subject}*\n{text}" if subject and text else subject or text
        for link in message.links:
            text += f"\n<{_address(link.href)}|{escaped(link.text or link.href)}>"
        answer = post_json(self._url, {"text": text}, headers={}, timeout_seconds=self._timeout_seconds)
        check(answer, self.provider)
        return Receipt("")


def escaped(text: str) -> str:
    """As Slack shows it: no mention, no link, whatever strangers wrote into it."""
    return text[:_TEXT_CHARACTERS].translate(_MARKUP)


def _address(href: str) -> str:
    return escaped(href).replace("|", "%7C")


class PagerDuty(OneAccount):
    """Alerts to a service, by the Events API v2."""

    provider = "pagerduty"

    def __init__(self, routing_key: str, *, url: str, timeout_seconds: float) -> None:
        super().__init__(routing_key)
        self._routing_key = routing_key
        self._url = url
        self._timeout_seconds = timeout_seconds

    def send(self, message: Message, *, key: str, since: datetime | None) -> Receipt:
        incident = (message.incident or key)[:255]
        text = {"text": message.text[:_TEXT_CHARACTERS]} if message.text else {}
        body: dict[str, Any] = {
            "routing_key": self._routing_key,
            "event_action": "resolve" if message.resolved else "trigger",
            "dedup_key": incident,
            "payload": {
                "summary": (message.subject or message.text)[:1024],
                "source": message.source[:255] or "fourlane",
                "severity": message.severity,
                "custom_details": _bounded(message.details) | text,
            },
        }
        if message.links:
            body["links"] = [{"href": link.href, "text": link.text or link.href} for link in message.links]
        answer = post_json(
            f"{self._url}/v2/enqueue", body, headers={}, timeout_seconds=self._timeout_seconds, repeatable=True
        )
        check(answer, self.provider)
        return Receipt(incident)


def _bounded(details: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps(details)
    return dict(details) if len(text) <= _DETAILS_CHARACTERS else {"cut": text[:_DETAILS_CHARACTERS]}
