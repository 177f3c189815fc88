"""Signatures: those that the providers published, and what must be refused."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe
import svix.webhooks

from fourlane.webhooks.verify import Refused, Senders, Verified, verify
from tests.http_server import Reply, Request, serving
from tests.localstripe import localstripe
from tests.servers import eventually

HERE = Path(__file__).parent
NOW = 1_768_726_800
SECRET = "whsec_test_of_this_suite"
EVENT = (
    b'{"id":"evt_1","type":"invoice.paid","created":1768726000,"data":{"object":{"id":"in_1","note":"caf\xc3\xa9"}}}'
)


def check(provider: str, headers: dict[str, str], body: bytes, now: float = NOW, **senders: Any) -> Verified:
    return verify(provider, headers, body, senders=Senders(**senders), now_seconds=now)


def refusal(provider: str, headers: dict[str, str], body: bytes, now: float = NOW, **senders: Any) -> str:
    with pytest.raises(Refused) as caught:
        check(provider, headers, body, now, **senders)
    return caught.value.reason


# --- Stripe ----------------------------------------------------------------------------------------


def stripe_headers(body: bytes = EVENT, at: int = NOW, secret: str = SECRET) -> dict[str, str]:
    return {"Stripe-Signature": stripe.WebhookSignature.generate_signature_header(body.decode(), secret, at)}


def test_what_stripes_own_sdk_signs() -> None:
    assert check("stripe", stripe_headers(), EVENT, stripe_secrets=[SECRET]) == Verified(
        provider="stripe",
        id="evt_1",
        type="invoice.paid",
        sent_at_seconds=NOW,
        created_at_ms=1_768_726_000_000,
        subject="in_1",
        payload=json.loads(EVENT),
    )


def test_both_secrets_are_valid_while_one_is_replaced() -> None:
    for secret in ("whsec_old", "whsec_new"):
        assert check("stripe", stripe_headers(secret=secret), EVENT, stripe_secrets=["whsec_old", "whsec_new"])
    # While Stripe rolls a secret it sends both signatures.
    both = stripe_headers(secret="whsec_gone")["Stripe-Signature"] + "," + stripe_headers()["Stripe-Signature"][13:]
    assert check("stripe", {"Stripe-Signature": both.replace(",,", ",")}, EVENT, stripe_secrets=[SECRET])


@pytest.mark.parametrize(
    ("headers", "body", "now", "reason"),
    [
        (stripe_headers(secret="whsec_other"), EVENT, NOW, "signature"),  # a wrong signing secret
        (stripe_headers(), EVENT.replace(b"in_1", b"in_2"), NOW, "signature"),
        (stripe_headers(), EVENT.replace(b":", b": "), NOW, "signature"),  # parsed and written again
        ({}, EVENT, NOW, "signature"),
        ({"Stripe-Signature": ""}, EVENT, NOW, "signature"),
        ({"Stripe-Signature": "t=1,v0=abc"}, EVENT, NOW, "signature"),
        ({"Stripe-Signature": "nonsense"}, EVENT, NOW, "signature"),
        (stripe_headers(), b"\xff\xfe", NOW, "signature"),
        (stripe_headers(), EVENT, NOW + 301, "age"),
        (stripe_headers(), EVENT, NOW - 301, "age"),  # from the future
        (stripe_headers(), EVENT, NOW + 600, "age"),  # our clock, off by ten minutes
        (stripe_headers(b"[]"), b"[]", NOW, "unusable"),
        (stripe_headers(b"{}"), b"{}", NOW, "unusable"),
        (stripe_headers(b"{"), b"{", NOW, "unusable"),
        (stripe_headers(b'{"id":NaN}'), b'{"id":NaN}', NOW, "unusable"),
        (stripe_headers(b'{"id":"\\ud800"}'), b'{"id":"\\ud800"}', NOW, "unusable"),
        (stripe_headers(b'{"id":"e","type":7}'), b'{"id":"e","type":7}', NOW, "unusable"),
    ],
)
def test_stripes_refusals(headers: dict[str, str], body: bytes, now: float, reason: str) -> None:
    assert refusal("stripe", headers, body, now, stripe_secrets=[SECRET]) == reason


def test_an_age_within_the_tolerance() -> None:
    for now in (NOW + 300, NOW - 300):
        assert check("stripe", stripe_headers(), EVENT, now, stripe_secrets=[SECRET]).id == "evt_1"
    assert refusal("stripe", stripe_headers(), EVENT, NOW + 31, stripe_secrets=[SECRET], tolerance_seconds=30) == "age"


def test_no_secret_takes_nothing() -> None:
    assert refusal("stripe", stripe_headers(secret=" "), EVENT) == "not configured"
    assert refusal("stripe", stripe_headers(), EVENT, stripe_secrets=[""]) == "signature"
    assert refusal("github", {}, b"{}") == "unknown provider"


def test_what_another_server_signs() -> None:
    arrived: list[Request] = []

    def take(request: Request) -> Reply:
        arrived.append(request)
        return Reply()

    with localstripe() as server, serving(take) as url:
        httpx.post(f"{server.url}/_config/webhooks/tests", data={"url": url, "secret": SECRET}).raise_for_status()
        server.post("v1/customers", {"email": "a@b.c"})
        server.post("v1/plans", {"currency": "usd", "interval": "month", "amount": "900", "product[name]": "Pro"})
        eventually(lambda: len(arrived) >= 2)
    for request in arrived:
        event = check("stripe", dict(request.headers), request.body, time.time(), stripe_secrets=["whsec_x", SECRET])
        assert event.type == json.loads(request.body)["type"]


# --- Supabase --------------------------------------------------------------------------------------

HOOK_SECRET = "v1,whsec_" + base64.b64encode(bytes(range(100, 132))).decode()
HOOK = b'{"user":{"id":"u1"},"email_data":{"token":"305805"}}'
INSERT = b'{"type":"INSERT","table":"credit_transactions","schema":"public","record":{"id":"r1"},"old_record":null}'


def hook_headers(body: bytes = HOOK, at: int = NOW, secret: str = HOOK_SECRET) -> dict[str, str]:
    webhook = svix.webhooks.Webhook(secret.removeprefix("v1,"))
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(at),
        "webhook-signature": webhook.sign("msg_1", datetime.fromtimestamp(at, UTC), body.decode()),
    }


def test_an_auth_hook_signed_by_another_library() -> None:
    event = check("supabase", hook_headers(), HOOK, supabase_hook_secrets=["v1,whsec_b2xk", HOOK_SECRET])
    assert (event.id, event.type, event.sent_at_seconds) == ("msg_1", "auth.hook", NOW)


def test_the_vector_of_standard_webhooks() -> None:
    """The example of the specification."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    body, secret = b'{"test": 2432232314}', "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert check("supabase", headers, body, 1614265330, supabase_hook_secrets=[secret]).id.startswith("msg_p5j")


@pytest.mark.parametrize(
    ("headers", "body", "now", "reason"),
    [
        (hook_headers(secret="whsec_b3RoZXI="), HOOK, NOW, "signature"),
        (hook_headers(), HOOK + b" ", NOW, "signature"),
        (hook_headers() | {"webhook-id": "msg_2"}, HOOK, NOW, "signature"),
        (hook_headers() | {"webhook-timestamp": str(NOW + 1)}, HOOK, NOW, "signature"),
        (hook_headers() | {"webhook-timestamp": "soon"}, HOOK, NOW, "malformed"),
        (hook_headers() | {"webhook-signature": "v1a,abc v1,"}, HOOK, NOW, "signature"),
        (hook_headers(), b"\xff", NOW, "malformed"),
        (hook_headers(), HOOK, NOW + 600, "age"),
        (hook_headers(), HOOK, NOW - 600, "age"),
    ],
)
def test_refusals_of_auth_hooks(headers: dict[str, str], body: bytes, now: float, reason: str) -> None:
    assert refusal("supabase", headers, body, now, supabase_hook_secrets=[HOOK_SECRET]) == reason


def test_a_database_webhook() -> None:
    for headers in ({"X-Webhook-Secret": "s3cret"}, {"Authorization": "Bearer s3cret"}):
        event = check("supabase", headers, INSERT, supabase_secrets=["old", "s3cret"])
        assert (event.type, event.subject) == ("credit_transactions.insert", "credit_transactions:r1")
    again = check("supabase", headers, INSERT, supabase_secrets=["s3cret"])
    assert again.id == event.id  # the same row cannot be inserted twice
    update = INSERT.replace(b"INSERT", b"UPDATE")
    ids = {check("supabase", headers, update, supabase_secrets=["s3cret"]).id for _ in range(2)}
    assert len(ids) == 2  # but set to the same value twice
    emptied = b'{"type":"TRUNCATE","table":"credit_transactions","schema":"public","record":null,"old_record":null}'
    event = check("supabase", headers, emptied, supabase_secrets=["s3cret"])
    assert (event.type, event.subject) == ("credit_transactions.truncate", "")
    for odd in (b"insert", b"GRANT", b"INSERT.x"):
        body = INSERT.replace(b"INSERT", odd)
        assert refusal("supabase", headers, body, supabase_secrets=["s3cret"]) == "unusable"
    for headers in ({}, {"X-Webhook-Secret": "guess"}, {"X-Webhook-Secret": ""}, {"Authorization": "Basic s3cret"}):
        assert refusal("supabase", headers, INSERT, supabase_secrets=["s3cret"]) == "signature"
    assert refusal("supabase", {"X-Webhook-Secret": ""}, INSERT) == "not configured"
