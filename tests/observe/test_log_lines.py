"""Redaction over many shapes, and whose a line is in coroutines that run side by side."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import string
import timeit
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fourlane.observe import logs
from fourlane.observe.redact import redact, redact_text
from fourlane.tasks.context import running
from tests.observe.test_parts import FakeRun, root

__all__ = ["root"]

WORDS = st.text(string.ascii_letters + string.digits + "äß", min_size=1, max_size=12)
SECRET = st.text(string.ascii_letters + string.digits, min_size=24, max_size=32).map(lambda text: "Zq" + text)
AROUND = st.text(string.ascii_letters + " \n\t.:;()[]<>äß", max_size=40)
NESTED = st.recursive(SECRET, lambda one: st.dictionaries(WORDS, one, max_size=3) | st.lists(one, max_size=3))
KEYS = st.sampled_from(
    [
        "password", "PASSWORD", "db_password", "apiKey",
        "api-key", "X-Api-Key", "client_secret", "accessToken", "Cookie",
        "authorization", "session_id", "privateKey", "SENTRY_DSN", "email", "customerEmail", "phone_number", "iban",
    ]
)  # fmt: skip
FORMS = st.sampled_from(
    [
        "password={}", "api_key: {}", '"client_secret": "{}"', "Authorization: Bearer {}", "sk-{}", "rk_live_{}",
        "whsec_{}", "https://user:{}@example.org/x", "postgresql://me:{}@db:5432/x", "eyJ{}.{}.sig", "{}@example.org",
        "token='{}'", "ghp_{}", "X-Signature={}",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(AROUND, FORMS, SECRET, AROUND)
def test_no_form_of_a_secret_survives_in_any_text(before: str, form: str, secret: str, after: str) -> None:
    shown = redact_text(f"{before} {form.replace('{}', secret)} {after}")
    assert secret not in shown
    assert "[" in shown


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(SECRET, lambda inner: st.dictionaries(WORDS, inner, max_size=3) | st.lists(inner, max_size=3)), KEYS
)
def test_what_stands_under_a_secret_key_is_gone_with_all_inside(value: Any, key: str) -> None:
    assert redact({"n": 1, "list": [{key: value}]}) == {"n": 1, "list": [{key: "[redacted]"}]}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 10**9) | st.floats(allow_nan=False) | st.booleans() | st.none()), WORDS)
def test_what_is_no_secret_stays(values: list[Any], word: str) -> None:
    assert redact({"count": values, "max_tokens": 5}) == {"count": values, "max_tokens": 5}
    assert redact_text(f"order {len(word)} of {word}") == f"order {len(word)} of {word}"


def test_coroutines_side_by_side_write_each_for_its_own_job(root: logging.Logger) -> None:
    root.handlers.clear()  # pytest has added its own again
    stream = io.StringIO()
    logs.configure(level="INFO", json=True, service="shop", stream=stream)

    async def job(number: int) -> None:
        running.set(FakeRun(number))  # type: ignore[arg-type]
        for _ in range(3):
            await asyncio.sleep(0)
            logging.getLogger("mine").info("%d", number)
            await asyncio.to_thread(logging.getLogger("mine").info, "%d", number)

    async def all_jobs() -> None:
        await asyncio.gather(*[asyncio.create_task(job(number)) for number in range(20)])

    asyncio.run(all_jobs())
    written = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(written) == 120
    for line in written:
        assert line["metadata"]["job"] == f"job{line['message']}"
        assert line["metadata"]["organization_id"] == f"org{line['message']}"
        assert line["user_id"] == "u1"
    assert len({line["trace_id"] for line in written}) == 20


def test_a_line_below_the_level_costs_a_look(root: logging.Logger) -> None:
    root.handlers.clear()  # pytest has added its own again
    logs.configure(level="INFO", json=True, service="shop", stream=io.StringIO())
    running.set(FakeRun(1))  # type: ignore[arg-type]
    mine = logging.getLogger("mine")
    off = min(timeit.repeat(lambda: mine.debug("quiet %s", 1), number=1_000, repeat=5))
    on = min(timeit.repeat(lambda: mine.info("loud %s", 1), number=1_000, repeat=5))
    assert off * 10 < on
