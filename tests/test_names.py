"""Names of services, tiers, tenants and queues, as tables."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from fourlane.errors import InvalidName
from fourlane.names import Queue, Tier, check_service, check_tenant, parse_queue


@pytest.mark.parametrize(
    ("name", "queue"),
    [
        ("production.jobs.high.image-processing", Queue("image-processing", Tier.P0)),
        ("jobs.low.mail", Queue("mail", Tier.P2)),  # of this environment
        ("production.jobs.P3.mail", Queue("mail", Tier.P3)),
        ("emails", Queue("emails", Tier.P1)),  # as dramatiq programs have them
        ("jobs", Queue("jobs", Tier.P1)),
    ],
)
def test_a_queue_is_read(name: str, queue: Queue) -> None:
    assert parse_queue(name, "production") == queue
    assert parse_queue(queue.name("production"), "production") == queue


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("staging.jobs.high.mail", "environment 'staging'"),
        ("production.jobs.urgent.mail", "no tier"),
        ("production.jobs.high.9lives", "no service name"),
        ("production.jobs.high", "no queue name"),
        ("production.tasks.high.mail", "no queue name"),
        ("a.b", "no queue name"),
        ("", "no service name"),
    ],
)
def test_what_is_no_queue_says_why(name: str, words: str) -> None:
    with pytest.raises(InvalidName, match=words):
        parse_queue(name, "production")


@pytest.mark.parametrize(
    ("given", "tier"),
    [("P0", 0), ("p3", 3), ("high", 0), (" Normal ", 1), ("low", 2), ("scheduled", 3), (2, 2), (Tier.P1, 1)],
)
def test_a_tier_is_read(given: Any, tier: int) -> None:
    assert Tier.parse(given) == tier


@pytest.mark.parametrize("given", ["P4", "", "urgent", 4, -1, True, 1.0, None])
def test_what_is_no_tier(given: Any) -> None:
    with pytest.raises(InvalidName, match="no tier"):
        Tier.parse(given)


@pytest.mark.parametrize("name", ["", "9", "-a", "a.b", "a b", "a{b", "ä", "a" * 64, "a\n", 5])
def test_what_is_no_service(name: Any) -> None:
    with pytest.raises(InvalidName, match="no service name"):
        check_service(name)


@pytest.mark.parametrize("name", ["a", "_", "image-processing_2", "a" * 63])
def test_what_is_a_service(name: str) -> None:
    assert check_service(name) == name


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("", ""),  # none
        ("acme corp/ä", "acme corp/ä"),
        ("a" * 200, "a" * 200),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ("a" * 201, None),
        ("a\nb", None),
        (7, None),
        (b"acme", None),
        (None, None),
    ],
)
def test_tenants(given: Any, name: str | None) -> None:
    if name is not None:
        assert check_tenant(given) == name
        return
    with pytest.raises(InvalidName, match="no tenant"):
        check_tenant(given)
