"""Acme's endpoints, and events that the platform sends there: thousands of deliveries to those who want none."""

from __future__ import annotations

import itertools
import time
import uuid
from collections import Counter
from typing import Any, Final

from sqlalchemy import select

from benchmarks.hostile.bird import mail
from benchmarks.hostile.parties import ACME
from benchmarks.hostile.receivers import KINDS
from fourlane.db.engine import Database
from fourlane.db.models import WebhookEndpoint
from fourlane.tasks.notifications import notify
from fourlane.tasks.webhooks import rows, send_event

__all__ = ["add_endpoints", "disable_all", "send"]

_URLS: Final = (
    "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://0.0.0.0/", "http://0/", "http://[::]/",
    "http://metadata.google.internal/", "http://user:pass@127.0.0.1:1/", "http://127.0.0.1:1/\r\nX-Evil: 1", "ftp://x/",
    "file:///etc/passwd", "http://", "http://x" * 500, "http://exa mple/", "http://\ud7ff/", "http://[::1", "",
    "http://x:99999/", "javascript:alert(1)", "http://xn--/", "http://127.0.0.1:22/", "//127.0.0.1/",
    "http://nobody.invalid/",
)  # fmt: skip
_ODD: Final = "hostile.url"
_FIRST_EVENTS: Final = 20
_MAILS: Final = 100


def add_endpoints(database: Database, port: int, number: int) -> Counter[str]:
    """As many, every second one ordered; and hostile URLs: those that are refused stand there all the same, as if
    they had been added before such were looked at."""
    from fourlane.tasks.webhooks import InvalidEndpoint, add_endpoint

    heard: Counter[str] = Counter()
    with database.begin() as session:
        for count, kind in zip(range(number), itertools.cycle(KINDS), strict=False):
            url = f"http://127.0.0.1:{port}/{kind}/{count}"
            options: dict[str, Any] = {"max_concurrency": 1_000, "ordered": count % 2 == 1}
            add_endpoint(session, url, organization_id=ACME.organization, event_types=["order.*"], **options)
        for url in _URLS:
            try:
                add_endpoint(session, url, organization_id=ACME.organization, event_types=[_ODD])
                heard["endpoint taken"] += 1
            except InvalidEndpoint:
                heard["endpoint refused"] += 1
                session.add(
                    WebhookEndpoint(
                        organization_id=ACME.organization, url=url, secret=rows.new_secret(), event_types=[_ODD]
                    )
                )
    return heard


def send(database: Database, seconds: float, events: int) -> Counter[str]:
    """So many events in this time, the first 20 at once; before them emails, under the keys that Bird uses."""
    heard: Counter[str] = Counter()
    for number in range(_MAILS):
        notify("email", mail(ACME, number, "acme"))
        heard["emails under Bird's keys"] += 1
    began = time.monotonic()
    for number in range(events):
        due = began + max(0, number - _FIRST_EVENTS) * seconds / events
        time.sleep(max(0.0, due - time.monotonic()))
        kind = _ODD if number % 20 == 0 else "order.made"
        for event_type in {kind, "order.made"}:
            with database.begin() as session:
                made = send_event(
                    session,
                    event_type,
                    {"n": number, "text": "x" * 1_000},
                    organization_id=ACME.organization,
                    event_id=f"msg_{uuid.uuid4().hex}",
                    order_key=f"{number % 3}",
                )
            heard["deliveries"] += len(made)
        if time.monotonic() - began > seconds:
            break
    return heard


def disable_all(database: Database) -> None:
    """What an operator does in the end."""
    with database.begin() as session:
        for endpoint in session.scalars(
            select(WebhookEndpoint).where(
                WebhookEndpoint.organization_id == ACME.organization, WebhookEndpoint.disabled_at.is_(None)
            )
        ):
            rows.disable(session, endpoint, "it is hostile", actor="an operator", now=endpoint.created_at)
