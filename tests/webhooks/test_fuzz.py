"""Whatever comes, the receiver answers: no exception, and nothing but the statuses that it has for what is wrong.

Longer: ``pytest tests/webhooks/test_fuzz.py --hypothesis-profile fuzz``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fourlane.providers import http
from fourlane.queues.broker import RedisBroker
from fourlane.webhooks.certificates import Certificates
from fourlane.webhooks.paypal import PayPal
from fourlane.webhooks.receive import Answer, Receiver, Refusal
from fourlane.webhooks.verify import Senders
from tests.webhooks.certificates import Authority, make_authority, make_leaf, paypal_headers
from tests.webhooks.test_receive import broker as broker

pytestmark = pytest.mark.timeout(1_800)

STRIPE, SHARED = "whsec_test_of_this_suite", "s3cret"
HOOK = "v1,whsec_" + base64.b64encode(bytes(range(32))).decode()
CERTIFICATE = "https://api.paypal.com/v1/notifications/certs/CERT-1"
REFUSALS = {400, 401, 403, 404, 413, 429}
fuzzed = settings(
    max_examples=settings.default.max_examples if settings.get_current_profile_name() == "fuzz" else 150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# --- What comes ------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers().map(str),
    st.integers(min_value=10**400, max_value=10**401).map(str),
    st.floats().map(repr),
    st.sampled_from(["NaN", "-Infinity", "1e999", "-0", "9" * 4_300, "9" * 10_000, "0." + "1" * 5_000, "1E400"]),
)
STRINGS = st.one_of(
    st.text(st.characters(codec=None, categories=None), max_size=20).map(json.dumps),
    st.sampled_from(['"\\ud800"', '"\\u0000"', '"' + "x" * 300 + '"', '"é"', '"\ud800"', '"evt_1"', '"invoice.paid"']),
)
VALUES = st.recursive(
    st.one_of(NUMBERS, STRINGS, st.sampled_from(["null", "true", "[]", "{}"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]"),
        st.tuples(STRINGS, inner).map(lambda pair: "{" + pair[0] + ":" + pair[1] + "}"),
    ),
    max_leaves=6,
)
NAMES = ["id", "type", "event_type", "create_time", "created", "data", "resource", "record", "table", "id"]
EVENTS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=8).map(
    lambda fields: "{" + ",".join(f'"{name}":{value}' for name, value in fields) + "}"
)
DEEP = st.sampled_from(
    [b"[" * 200_000, b'{"id":' * 200_000, b'{"id":"a","type":"b","x":' + b"[" * 950 + b"]" * 950 + b"}", b"\xff" * 9]
)
BODIES = st.one_of(
    st.binary(max_size=200),
    EVENTS.map(lambda text: text.encode(errors="surrogatepass")),
    EVENTS.map(lambda text: text.encode("utf-16", errors="surrogatepass")),
    VALUES.map(lambda text: text.encode(errors="surrogatepass")),
    DEEP,
)
TEXTS = st.one_of(
    st.text(st.characters(codec=None, categories=None), max_size=40),
    st.text("0123456789=,tv1| é\ud800", max_size=40),
    st.sampled_from(
        ["t=1,v1=é", "t=" + "9" * 5_000 + ",v1=00", "t=1,v1=" + "0" * 20_000, "v1,é", "v1," + "A" * 50_000, "é", "==="]
    ),
)
HEADERS = st.dictionaries(
    st.one_of(
        st.sampled_from(
            [
                "Stripe-Signature",
                "paypal-transmission-id",
                "paypal-transmission-time",
                "paypal-transmission-sig",
                "paypal-cert-url",
                "paypal-auth-algo",
                "webhook-id",
                "webhook-timestamp",
                "webhook-signature",
                "x-webhook-secret",
                "Authorization",
            ]
        ),
        st.text(max_size=5),
    ),
    st.one_of(
        TEXTS,
        st.sampled_from(
            [CERTIFICATE, "SHA256withRSA", "2026-01-18T09:00:00Z", "0001-01-01T00:00:00+23:59", "1", "AAAA"]
        ),
    ),
    max_size=12,
)
PROVIDERS = st.one_of(st.sampled_from(["stripe", "paypal", "supabase"]), st.text(max_size=5))
ADDRESSES = st.one_of(st.sampled_from(["", "1.2.3.4", "[2001:db8::1]:443", "fe80::1%eth0"]), TEXTS)


# --- Who takes it ----------------------------------------------------------------------------------


@cache
def paypals() -> tuple[Authority, Any, bytes]:
    authority = make_authority()
    return (authority, *make_leaf(authority))


@pytest.fixture
def taker(broker: RedisBroker) -> Iterator[Receiver]:
    authority, _, pem = paypals()
    told: list[Refusal] = []
    senders = Senders(
        stripe_secrets=[STRIPE],
        paypal=PayPal("W1", Certificates(roots_pem=authority.pem)),
        supabase_secrets=[SHARED],
        supabase_hook_secrets=[HOOK],
    )
    with mock.patch.object(http, "get", return_value=http.Response(200, {}, pem, 1.0)):
        yield Receiver(senders, per_minute=0, report=told.append)


def signed(provider: str, body: bytes) -> dict[str, str]:
    """Headers that make a body genuine, whatever it is."""
    now = int(time.time())
    if provider == "stripe":
        mac = hmac.new(STRIPE.encode(), f"{now}.".encode() + body, hashlib.sha256)
        return {"Stripe-Signature": f"t={now},v1={mac.hexdigest()}"}
    if provider == "paypal":
        at = datetime.now(UTC)
        transmission = hashlib.sha256(body).hexdigest()
        return paypal_headers(
            paypals()[1], body, webhook_id="W1", certificate_url=CERTIFICATE, at=at, transmission=transmission
        )
    if provider == "hook":
        mac = hmac.new(bytes(range(32)), f"msg_1.{now}.".encode() + body, hashlib.sha256)
        signature = base64.b64encode(mac.digest()).decode()
        return {"webhook-id": "msg_1", "webhook-timestamp": str(now), "webhook-signature": f"v1,{signature}"}
    return {"x-webhook-secret": SHARED}


def is_answer(answer: Answer) -> bool:
    return isinstance(json.loads(answer.body), dict)


@fuzzed
@given(PROVIDERS, HEADERS, BODIES, ADDRESSES)
@example("stripe", {"Stripe-Signature": "t=1,v1=é"}, b"{}", "")
@example("supabase", {"x-webhook-secret": "\ud800"}, b"{}", "")
@example("paypal\x00\n", {}, b"", "\x00")
def test_what_strangers_send(
    taker: Receiver, provider: str, headers: dict[str, str], body: bytes, address: str
) -> None:
    answer = taker.receive(provider, headers, body, address=address)
    assert answer.status in REFUSALS
    assert is_answer(answer)


@fuzzed
@given(st.sampled_from(["stripe", "paypal", "supabase", "hook"]), BODIES)
@example("stripe", b'{"id":"a","type":"b","x":NaN}')
@example("stripe", b'{"id":"a","type":"b","x":1e999}')
@example("supabase", b'{"type":"UPDATE","table":"b","x":"\\ud800"}')
@example("paypal", b'{"id":"a","event_type":"b","create_time":"0001-01-01T00:00:00+23:59"}')
@example("stripe", b'{"id":"a","type":"b","created":' + b"9" * 4_000 + b"}")
def test_what_providers_sign(taker: Receiver, provider: str, body: bytes) -> None:
    """Genuine, so it is a job or told of; of ours it is never the fault."""
    answer = taker.receive("supabase" if provider == "hook" else provider, signed(provider, body), body)
    assert answer.status in {200, *REFUSALS}
    assert is_answer(answer)
