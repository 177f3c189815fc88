"""Names of events and SQS queues, both ways."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourlane.errors import InvalidName
from fourlane.events.names import CATEGORIES, EventName, EventQueue, parse_event, parse_sqs
from fourlane.names import ENVIRONMENTS

TYPES = st.from_regex(r"[a-z](?:[a-z0-9]|[-_](?=[a-z0-9])){0,37}", fullmatch=True)


@pytest.mark.parametrize(
    ("name", "environment", "sqs"),
    [
        ("platform.user-signup", "staging", "staging-events-platform-user-signup"),
        ("staging.events.platform.user-signup", "staging", "staging-events-platform-user-signup"),
        ("events.audit.login", "production", "production-events-audit-login"),
        # A type may look like an environment or category itself.
        ("audit.events-platform-x", "local", "local-events-audit-events-platform-x"),
        ("analytics.page_view", "local", "local-events-analytics-page_view"),
    ],
)
def test_an_event_has_one_queue(name: str, environment: str, sqs: str) -> None:
    queue = EventQueue(environment, parse_event(name, environment))
    assert queue.sqs_name == sqs
    assert parse_sqs(sqs) == queue
    assert queue.event.stream == f"{queue.event.category}-events"


@given(st.sampled_from(ENVIRONMENTS), st.sampled_from(CATEGORIES), TYPES, st.booleans(), st.booleans())
def test_every_sqs_name_can_be_read_back(environment: str, category: str, kind: str, fifo: bool, dead: bool) -> None:
    queue = EventQueue(environment, EventName(category, kind), fifo, dead)
    fits = len(queue.dead_letters.sqs_name) <= 80
    if not fits:
        with pytest.raises(InvalidName, match="80"):
            parse_event(str(queue.event), environment, fifo=fifo)
        return
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo", queue.sqs_name)
    assert parse_sqs(queue.sqs_name) == queue
    assert parse_event(queue.event.full(environment), environment) == queue.event


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("user-signup", "write CATEGORY.TYPE"),
        ("", "write CATEGORY.TYPE"),
        ("billing.paid", "use platform, audit, analytics, notification"),
        ("platform.user signup", "small letters and digits"),
        ("platform.user/signup", "small letters and digits"),
        ("platform.User", "small letters and digits"),
        ("platform.user__dead", "small letters and digits"),
        ("platform.user-", "small letters and digits"),
        ("platform.ünder", "small letters and digits"),
        ("platform." + "x" * 60, "shorten the type by"),
        ("production.events.platform.user", "this one is 'local'"),
    ],
)
def test_a_wrong_name_says_what_to_do(name: str, fix: str) -> None:
    with pytest.raises(InvalidName, match=fix):
        parse_event(name, "local")


def test_the_length_counts_what_is_added() -> None:
    just = "x" * (80 - len("local-events-platform-__dead"))
    assert len(EventQueue("local", parse_event(f"platform.{just}", "local"), dead=True).sqs_name) == 80
    with pytest.raises(InvalidName, match=r"has 81 characters.*by 1"):
        parse_event(f"platform.{just}x", "local")
    with pytest.raises(InvalidName, match="by 5"):
        parse_event(f"platform.{just}", "local", fifo=True)


@pytest.mark.parametrize("name", ["orders", "dev-events-platform-x", "local-events-billing-x", "local-events-audit-"])
def test_queues_of_others_are_not_ours(name: str) -> None:
    assert parse_sqs(name) is None
