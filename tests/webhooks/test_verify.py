"""Signatures: those that the providers published, and what must be refused."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe
import svix.webhooks
from cryptography import x509

from fourlane.providers import http
from fourlane.providers.paypal import PayPalApi
from fourlane.webhooks import certificates
from fourlane.webhooks.certificates import Certificates
from fourlane.webhooks.paypal import PayPal, check_signature, read_transmission, signed_text
from fourlane.webhooks.verify import Refused, Senders, Unverifiable, Verified, verify
from tests.http_server import Reply, Request, serving
from tests.localstripe import localstripe
from tests.servers import eventually
from tests.webhooks.certificates import NAME, Authority, make_authority, make_leaf, paypal_headers

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


# --- PayPal ----------------------------------------------------------------------------------------

PUBLISHED = {  # of PayPal's own SDKs' tests
    "paypal-transmission-id": "dfb3be50-fd74-11e4-8bf3-77339302725b",
    "paypal-transmission-time": "2015-05-18T15:45:13Z",
    "paypal-transmission-sig": (
        "thy4/U002quzxFavHPwbfJGcc46E8rc5jzgyeafWm5mICTBdY/8rl7WJpn8JA0GKA+oDTPsSruqusw+XXg5RLAP7ip53Euh9Xu3UbUhQFX7Ug"
        "wzE2FeYoY6lyRMiiiQLzy9BvHfIzNIVhPad4KnC339dr6y2l+mN8ALgI4GCdIh3/SoJO5wE64Bh/ueWtt8EVuvsvXfda2Le5a2TrOI9vLEzsm"
        "9GS79hAR/5oLexNz8UiZr045Mr5ObroH4w4oNfmkTaDk9Rj0G19uvISs5QzgmBpauKr7Nw++JI0pr/v5mFctQkoWJSGfBGzPRXawrvIIVHQ9W"
        "er48GR2g9ZiApWg=="
    ),
    "paypal-cert-url": "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77",
    "paypal-auth-algo": "SHA256withRSA",
}
PUBLISHED_WEBHOOK = "4JH86294D6297924G"


def test_the_signature_that_paypal_published() -> None:
    body = (HERE / "paypal_sandbox_2015.json").read_bytes()
    certificate = x509.load_pem_x509_certificate((HERE / "paypal_sandbox_2015.pem").read_bytes())
    sent = read_transmission(PUBLISHED)
    assert signed_text(sent, PUBLISHED_WEBHOOK, body).startswith(b"dfb3be50-fd74-11e4-8bf3-77339302725b|2015-05-18T15")
    check_signature(certificate, sent, PUBLISHED_WEBHOOK, body)
    with pytest.raises(Refused, match="did not make it"):
        check_signature(certificate, sent, PUBLISHED_WEBHOOK, body + b" ")
    with pytest.raises(Refused, match="did not make it"):
        check_signature(certificate, sent, "4JH86294D6297924H", body)


CERTIFICATE_URL = "https://api.paypal.com/v1/notifications/certs/CERT-1"
PAYPAL_EVENT = (
    b'{"id":"WH-1","event_type":"PAYMENT.CAPTURE.COMPLETED","create_time":"2026-01-18T09:00:00.000Z",'
    b'"resource":{"id":"CAP1"}}'
)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """Certificates by URL; what is asked for beside them is not there."""
    certificates: dict[str, bytes] = {}

    def get(url: str, **_: object) -> http.Response:
        fetches.append(url)
        found = certificates.get(url)
        return http.Response(200 if found else 404, {}, found or b"", 1.0)

    fetches: list[str] = []
    monkeypatch.setattr(http, "get", get)
    certificates["fetches"] = fetches  # type: ignore[assignment]
    return certificates


def signed(
    key: Any, body: bytes = PAYPAL_EVENT, url: str = CERTIFICATE_URL, at: datetime | None = None
) -> dict[str, str]:
    return paypal_headers(key, body, webhook_id="W1", certificate_url=url, at=at or datetime.now(UTC))


def test_a_certificate_is_fetched_once(authority: Authority, fetched: dict[str, Any]) -> None:
    key, fetched[CERTIFICATE_URL] = make_leaf(authority)
    sender = PayPal("W1", Certificates(roots_pem=authority.pem))
    for _ in range(3):
        event = check("paypal", signed(key), PAYPAL_EVENT, time.time(), paypal=sender)
    assert (event.id, event.type, event.subject) == ("WH-1", "PAYMENT.CAPTURE.COMPLETED", "CAP1")
    assert event.created_at_ms == 1_768_726_800_000
    assert fetched["fetches"] == [CERTIFICATE_URL]


def test_paypals_refusals(authority: Authority, fetched: dict[str, Any]) -> None:
    key, pem = make_leaf(authority)
    fetched[CERTIFICATE_URL] = pem
    sender = PayPal("W1", Certificates(roots_pem=authority.pem))
    now = time.time()

    def reason(headers: dict[str, str], body: bytes = PAYPAL_EVENT, who: PayPal = sender, at: float = now) -> str:
        return refusal("paypal", headers, body, at, paypal=who)

    assert reason(signed(key), PAYPAL_EVENT + b" ") == "signature"
    assert reason(signed(key), who=PayPal("W2", Certificates(roots_pem=authority.pem))) == "signature"
    assert reason(signed(key), at=now + 600) == "age"
    assert reason(signed(key), at=now - 600) == "age"
    assert reason({}) == "signature"
    assert reason(signed(key) | {"PAYPAL-AUTH-ALGO": "SHA1withRSA"}) == "signature"
    assert reason(signed(key) | {"PAYPAL-TRANSMISSION-SIG": "*"}) == "signature"
    assert reason(signed(key) | {"PAYPAL-TRANSMISSION-TIME": "yesterday"}) == "malformed"
    assert refusal("paypal", signed(key), PAYPAL_EVENT, now) == "not configured"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1",
        "https://evil.example/v1/notifications/certs/CERT-1",
        "https://api.paypal.com@evil.example/v1/notifications/certs/CERT-1",
        "http://api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com/v1/files/CERT-1",
        "https://api.paypal.com/v1/notifications/certs/../../files/1",
        "https://api.paypal.com/v1/notifications/certs/..%2f1",
        "https://api.paypal.com/v1/notifications/certs/",
        "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-1",  # the sandbox's, for the live system
    ],
)
def test_certificates_from_elsewhere_are_not_even_fetched(
    authority: Authority, fetched: dict[str, Any], url: str
) -> None:
    key, fetched[url] = make_leaf(authority)
    sender = PayPal("W1", Certificates(roots_pem=authority.pem))
    assert refusal("paypal", signed(key, url=url), PAYPAL_EVENT, time.time(), paypal=sender) == "signature"
    assert fetched["fetches"] == []


def test_certificates_that_nobody_vouches_for(authority: Authority, fetched: dict[str, Any]) -> None:
    stranger = make_authority()
    for number, (issuer, options) in enumerate(
        [(stranger, {}), (authority, {"name": "paypal.evil.example"}), (authority, {"days": -1})]
    ):
        url = f"{CERTIFICATE_URL}{number}"
        key, fetched[url] = make_leaf(issuer, **options)
        sender = PayPal("W1", Certificates(roots_pem=authority.pem))
        with pytest.raises(Refused, match="not to be trusted"):
            check("paypal", signed(key, url=url), PAYPAL_EVENT, time.time(), paypal=sender)
    fetched[CERTIFICATE_URL] = b"no certificate"
    with pytest.raises(Refused, match="cannot be read"):
        check(
            "paypal", signed(key), PAYPAL_EVENT, time.time(), paypal=PayPal("W1", Certificates(roots_pem=authority.pem))
        )
    del fetched[CERTIFICATE_URL]
    with pytest.raises(Refused, match="no such certificate"):
        check(
            "paypal", signed(key), PAYPAL_EVENT, time.time(), paypal=PayPal("W1", Certificates(roots_pem=authority.pem))
        )


def test_a_kept_certificate_ends_too(authority: Authority, fetched: dict[str, Any]) -> None:
    key, fetched[CERTIFICATE_URL] = make_leaf(authority, days=1)
    sender = PayPal("W1", Certificates(roots_pem=authority.pem))
    check("paypal", signed(key), PAYPAL_EVENT, time.time(), paypal=sender)
    later = datetime.now(UTC) + timedelta(days=2)
    with pytest.raises(Refused, match="expired"):
        check("paypal", signed(key, at=later), PAYPAL_EVENT, later.timestamp(), paypal=sender)


def test_the_usual_roots_are_trusted_by_default() -> None:
    assert len(Certificates()._roots()) > 50
    assert Certificates().name == NAME


def test_a_certificate_host_that_is_away_is_no_refusal(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    key, _ = make_leaf(authority)

    def away(*_: object, **__: object) -> http.Response:
        raise http.TransportError("timeout")

    monkeypatch.setattr(http, "get", away)
    with pytest.raises(Unverifiable):
        check("paypal", signed(key), PAYPAL_EVENT, time.time(), paypal=PayPal("W1"))


def test_the_postback(authority: Authority) -> None:
    asked: list[bytes] = []
    verdicts = iter(
        [Reply(body=b'{"verification_status":"SUCCESS"}'), Reply(body=b'{"verification_status":"FAILURE"}')]
    )

    def answer(request: Request) -> Reply:
        if request.path == "/v1/oauth2/token":
            return Reply(body=b'{"access_token":"T","expires_in":32400}')
        assert request.headers["authorization"] == "Bearer T"
        asked.append(request.body)
        return next(verdicts)

    key, _ = make_leaf(authority)
    body = PAYPAL_EVENT.replace(b'"id":"WH-1"', b'"id" :  "WH-1", "amount": 20.0')
    with serving(answer) as url:
        api = PayPalApi("id", "secret", base_url=url, allow_private=True)
        sender = PayPal("W1", way="postback", api=api)
        assert check("paypal", signed(key, body), body, time.time(), paypal=sender).id == "WH-1"
        assert refusal("paypal", signed(key, body), body, time.time(), paypal=sender) == "signature"
    assert body in asked[0]  # as it came, space for space
    assert json.loads(asked[0])["webhook_id"] == "W1"
    assert refusal("paypal", signed(key), PAYPAL_EVENT, time.time(), paypal=PayPal("W1", way="postback")) == (
        "not configured"
    )


def test_a_postback_without_an_answer_is_no_refusal(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fourlane.providers.payments.RETRY_SECONDS", (0.0,))
    key, _ = make_leaf(authority)
    with serving(lambda _: Reply(500)) as url:
        sender = PayPal("W1", way="postback", api=PayPalApi("id", "secret", base_url=url, allow_private=True))
        with pytest.raises(Unverifiable):
            check("paypal", signed(key), PAYPAL_EVENT, time.time(), paypal=sender)


def test_the_keys_of_many_certificates_are_not_all_kept(authority: Authority, fetched: dict[str, Any]) -> None:
    key, pem = make_leaf(authority)
    sender = PayPal("W1", Certificates(roots_pem=authority.pem))
    for number in range(40):
        fetched[url := f"{CERTIFICATE_URL}{number}"] = pem
        check("paypal", signed(key, url=url), PAYPAL_EVENT, time.time(), paypal=sender)
    assert len(sender.certificates._kept) == certificates._MOST_KEPT


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
    for headers in ({}, {"X-Webhook-Secret": "guess"}, {"X-Webhook-Secret": ""}, {"Authorization": "Basic s3cret"}):
        assert refusal("supabase", headers, INSERT, supabase_secrets=["s3cret"]) == "signature"
    assert refusal("supabase", {"X-Webhook-Secret": ""}, INSERT) == "not configured"
