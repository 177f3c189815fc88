"""PayPal: its signature, its certificates, and what it is asked."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fourlane.providers import http
from fourlane.providers.paypal import PayPalApi
from fourlane.queues.broker import RedisBroker
from fourlane.webhooks import certificates
from fourlane.webhooks.certificates import Certificates
from fourlane.webhooks.paypal import PayPal, check_signature, read_transmission, signed_text
from fourlane.webhooks.receive import Receiver, Refusal
from fourlane.webhooks.verify import Refused, Senders, Unverifiable
from tests.http_server import Reply, Request, serving
from tests.webhooks.certificates import NAME, Authority, make_authority, make_leaf, paypal_headers
from tests.webhooks.test_receive import broker as broker
from tests.webhooks.test_verify import check, refusal

HERE = Path(__file__).parent

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
    key: Any, body: bytes = PAYPAL_EVENT, url: str = CERTIFICATE_URL, at: datetime | None = None, id: str = "t-1"
) -> dict[str, str]:
    at = at or datetime.now(UTC)
    return paypal_headers(key, body, webhook_id="W1", certificate_url=url, at=at, transmission=id)


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


# --- What is signed is a CRC-32 --------------------------------------------------------------------


def forged(genuine: bytes, event: str) -> bytes:
    """Another event whose body has the same CRC-32: each of 40 letters may be one or another, and 32 are enough."""
    places = 40
    start = json.dumps(json.loads(event) | {"x": "@" * places}).encode()
    at = start.index(b"@" * places)

    def flipped(number: int) -> bytes:
        changed = bytearray(start)
        changed[at + number] ^= 1
        return bytes(changed)

    def mixed(value: int, taken: int) -> tuple[int, int]:
        for bit, (row, mark) in rows.items():
            if value >> bit & 1:
                value, taken = value ^ row, taken ^ mark
        return value, taken

    rows: dict[int, tuple[int, int]] = {}
    for number in range(places):
        value, taken = mixed(zlib.crc32(flipped(number)) ^ zlib.crc32(start), 1 << number)
        if value:
            rows[value.bit_length() - 1] = (value, taken)
            rows = dict(sorted(rows.items(), reverse=True))
    left, taken = mixed(zlib.crc32(start) ^ zlib.crc32(genuine), 0)
    assert left == 0
    changed = bytearray(start)
    for number in range(places):
        changed[at + number] ^= taken >> number & 1
    return bytes(changed)


FORGED = '{"id":"WH-2","event_type":"PAYMENT.CAPTURE.COMPLETED","resource":{"id":"CAP9","amount":"99999.00"}}'


def test_a_transmission_is_held_to_its_first_body(
    broker: RedisBroker, authority: Authority, fetched: dict[str, Any]
) -> None:
    key, fetched[CERTIFICATE_URL] = make_leaf(authority)
    told: list[Refusal] = []
    takers = [
        Receiver(
            Senders(paypal=PayPal("W1", Certificates(roots_pem=authority.pem))),
            report=told.append,
        )
        for _ in range(2)
    ]
    headers, forgery = signed(key), forged(PAYPAL_EVENT, FORGED)
    assert zlib.crc32(forgery) == zlib.crc32(PAYPAL_EVENT)
    assert check("paypal", headers, forgery, time.time(), paypal=takers[0]._senders.paypal).id == "WH-2"

    first = takers[0].receive("paypal", headers, PAYPAL_EVENT)
    assert first.status == 200
    assert takers[1].receive("paypal", headers, PAYPAL_EVENT).body == first.body, "sent again, it is the same"
    assert takers[1].receive("paypal", headers, forgery).status == 401
    assert [refusal.reason for refusal in told] == ["transmission"]
    keys = broker.store.service("webhooks")
    assert broker.client.hlen(keys.jobs) == 1
    assert 600_000 < broker.client.pttl(keys.seen("paypal:t-1")) <= 3_600_000 + 600_000


@pytest.mark.parametrize("id", ["t|1", "t 1", "", "é", "x" * 101, "t\n1"])
def test_odd_transmissions(authority: Authority, id: str) -> None:
    """Without the sign that parts it from the time: else one text had two readings."""
    key, _ = make_leaf(authority)
    assert refusal("paypal", signed(key, id=id), PAYPAL_EVENT, time.time(), paypal=PayPal("W1")) == "signature"


def test_the_lookup_takes_paypals_own_event(authority: Authority, fetched: dict[str, Any]) -> None:
    key, fetched[CERTIFICATE_URL] = make_leaf(authority)
    fetches, asked = http.get, list[str]()
    known: dict[str, Any] = json.loads(PAYPAL_EVENT) | {"resource": {"id": "CAP1", "amount": "20.00"}}

    def get(url: str, **options: Any) -> http.Response:
        if "/webhooks-events/" not in url:
            return fetches(url, **options)
        asked.append(url)
        found = url.partition("?")[0].endswith("/WH-1")
        return http.Response(200 if found else 404, {}, json.dumps(known).encode() if found else b"{}", 1.0)

    api = PayPalApi("id", "secret")
    api._token, api._token_until = "T", time.monotonic() + 1_000
    sender = PayPal("W1", Certificates(roots_pem=authority.pem), way="lookup", api=api)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http, "get", get)
        event = check("paypal", signed(key), PAYPAL_EVENT, time.time(), paypal=sender)
        assert event.payload == known, "not what the request says"
        with pytest.raises(Unverifiable, match="404"):  # it may not show it yet
            check("paypal", signed(key), forged(PAYPAL_EVENT, FORGED), time.time(), paypal=sender)
        assert refusal("paypal", signed(key), PAYPAL_EVENT + b" ", time.time(), paypal=sender) == "signature"
        assert len(asked) == 2, "what is not signed is not asked for"
        odd = PAYPAL_EVENT.replace(b"WH-1", b"../../x")
        assert refusal("paypal", signed(key, odd), odd, time.time(), paypal=sender) == "unusable"
        reasons = [refusal_or(sender, signed(key)) for _ in range(6)]
        assert reasons == ["", "", "", "rate", "rate", "rate"], "a transmission is looked up five times a minute"


def test_what_paypal_shows_may_be_no_job_either(
    broker: RedisBroker, authority: Authority, fetched: dict[str, Any]
) -> None:
    key, fetched[CERTIFICATE_URL] = make_leaf(authority)
    fetched["https://api-m.paypal.com/v1/notifications/webhooks-events/WH-1?"] = PAYPAL_EVENT.replace(b'"CAP1"', b"NaN")
    api = PayPalApi("id", "secret")
    api._token, api._token_until = "T", time.monotonic() + 1_000
    sender = PayPal("W1", Certificates(roots_pem=authority.pem), way="lookup", api=api)
    told: list[Refusal] = []
    taker = Receiver(Senders(paypal=sender), report=told.append)
    assert taker.receive("paypal", signed(key), PAYPAL_EVENT).status == 400
    assert [refusal.reason for refusal in told] == ["unusable"]


def refusal_or(sender: PayPal, headers: dict[str, str]) -> str:
    try:
        check("paypal", headers, PAYPAL_EVENT, time.time(), paypal=sender)
        return ""
    except Refused as refused:
        return refused.reason
