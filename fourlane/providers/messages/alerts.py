"""Alerts to operators."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fourlane.providers.messages.call import check, post_json
from fourlane.providers.messages.message import Message, OneAccount, Receipt

__all__ = ["PagerDuty", "Slack"]


class Slack(OneAccount):
    """Alerts to the channel of an incoming webhook."""

    provider = "slack"

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        super().__init__(url)
        self._url = url
        self._timeout_seconds = timeout_seconds

    def send(self, message: Message, *, key: str, since: datetime | None) -> Receipt:
        text = f"*{message.subject}*\n{message.text}" if message.subject and message.text else message.subject
        answer = post_json(self._url, {"text": text or message.text}, headers={}, timeout_seconds=self._timeout_seconds)
        check(answer, self.provider)
        return Receipt("")


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
        body: dict[str, Any] = {
            "routing_key": self._routing_key,
            "event_action": "resolve" if message.resolved else "trigger",
            "dedup_key": incident,
            "payload": {
                "summary": (message.subject or message.text)[:1024],
                "source": message.source or "fourlane",
                "severity": message.severity,
                "custom_details": dict(message.details) | ({"text": message.text} if message.text else {}),
            },
        }
        answer = post_json(
            f"{self._url}/v2/enqueue", body, headers={}, timeout_seconds=self._timeout_seconds, repeatable=True
        )
        check(answer, self.provider)
        return Receipt(incident)
