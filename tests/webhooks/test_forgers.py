"""What forged requests of PayPal's cost: few calls, few threads, and no certificate that we have."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from fourlane.providers import http
from fourlane.providers.paypal import PayPalApi
from fourlane.webhooks import certificates, questions
from fourlane.webhooks.certificates import Certificates
from fourlane.webhooks.paypal import PayPal
from fourlane.webhooks.receive import Receiver, Refusal
from fourlane.webhooks.verify import Refused, Senders, Unverifiable
from tests.http_server import Reply, Request, serving
from tests.webhooks.certificates import Authority, make_leaf
from tests.webhooks.test_paypal import CERTIFICATE_URL, PAYPAL_EVENT, signed
from tests.webhooks.test_paypal import authority as authority
from tests.webhooks.test_paypal import fetched as fetched
from tests.webhooks.test_verify import check, refusal


def test_a_certificate_that_is_not_there_is_asked_for_once_a_minute(
    authority: Authority, fetched: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, pem = make_leaf(authority)
    sender = PayPal("W1", Certificates(roots_pem=authority.pem))
    for _ in range(20):
        assert refusal("paypal", signed(key), PAYPAL_EVENT, time.time(), paypal=sender) == "signature"
    assert fetched["fetches"] == [CERTIFICATE_URL]
    fetched[CERTIFICATE_URL] = pem
    monkeypatch.setattr(certificates, "_FAULT_SECONDS", 0)
    sender = PayPal("W1", Certificates(roots_pem=authority.pem))
    assert check("paypal", signed(key), PAYPAL_EVENT, time.time(), paypal=sender).id == "WH-1"


def test_so_is_a_host_that_is_away(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def away(url: str, **_: object) -> http.Response:
        tries.append(url)
        raise http.TransportError("timeout")

    monkeypatch.setattr(http, "get", away)
    key, _ = make_leaf(authority)
    sender = PayPal("W1")
    for _ in range(5):
        with pytest.raises(Unverifiable, match="timeout"):
            check("paypal", signed(key), PAYPAL_EVENT, time.time(), paypal=sender)
    assert len(tries) == 1


def test_names_at_will_cost_few_calls(authority: Authority, fetched: dict[str, Any]) -> None:
    key, _ = make_leaf(authority)
    sender = PayPal("W1", Certificates(roots_pem=authority.pem))
    senders, headers = Senders(paypal=sender), signed(key)
    told: list[Refusal] = []
    taker = Receiver(senders, per_minute=0, report=told.append)

    def forge(number: int, address: str) -> int:
        given = headers | {"PAYPAL-CERT-URL": f"{CERTIFICATE_URL}-{number}"}
        return taker.receive("paypal", given, PAYPAL_EVENT, address=address).status

    assert [forge(n, "6.6.6.6") for n in range(8)] == [401] * 4 + [429] * 4
    assert len(fetched["fetches"]) == 4, "one sender does not use up what all have"
    for n in range(100):
        forge(n + 100, f"7.7.7.{n}")
    assert len(fetched["fetches"]) == 10
    assert {refusal.reason for refusal in told} == {"signature", "rate"}
    long = f"https://api.paypal.com/v1/notifications/certs/{'A' * 101}"
    assert forge_url(sender, key, long) == "signature"
    assert long not in fetched["fetches"]


def forge_url(sender: PayPal, key: Any, url: str) -> str:
    return refusal("paypal", signed(key, url=url), PAYPAL_EVENT, time.time(), paypal=sender)


def test_one_is_fetched_at_a_time_and_few_wait(
    authority: Authority, fetched: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, pem = make_leaf(authority)
    fetched[CERTIFICATE_URL] = pem
    go_on, began, get = threading.Event(), threading.Event(), http.get

    def slow(url: str, **options: Any) -> http.Response:
        began.set()
        go_on.wait(10)
        return get(url, **options)

    monkeypatch.setattr(http, "get", slow)
    monkeypatch.setattr(questions, "_PATIENCE_SECONDS", 0.01)
    sender = PayPal("W1", Certificates(roots_pem=authority.pem))
    results: list[object] = []

    def take() -> None:
        try:
            results.append(check("paypal", signed(key), PAYPAL_EVENT, time.time(), paypal=sender).id)
        except Unverifiable as error:
            results.append(type(error))

    threads = [threading.Thread(target=take) for _ in range(12)]
    for thread in threads:
        thread.start()
    assert began.wait(10)
    for thread in threads[:]:
        thread.join(0.3)
    assert results == [Unverifiable] * 8
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert results[8:] == ["WH-1"] * 4
    assert fetched["fetches"] == [CERTIFICATE_URL]


def test_a_kept_certificate_outlives_a_bad_hour(
    authority: Authority, fetched: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, fetched[CERTIFICATE_URL] = make_leaf(authority)
    sender = PayPal("W1", Certificates(roots_pem=authority.pem))
    monkeypatch.setattr(certificates, "_FRESH_SECONDS", 0)
    check("paypal", signed(key), PAYPAL_EVENT, time.time(), paypal=sender)

    def away(url: str, **_: object) -> http.Response:
        raise http.TransportError("timeout")

    get = http.get
    monkeypatch.setattr(http, "get", away)
    for _ in range(3):
        assert check("paypal", signed(key), PAYPAL_EVENT, time.time(), paypal=sender).id == "WH-1"
    monkeypatch.setattr(http, "get", get)
    del fetched[CERTIFICATE_URL]
    with sender.certificates._fetching:  # as if the minute were over for which it stands
        kept = sender.certificates._kept
        kept[CERTIFICATE_URL] = replace(kept[CERTIFICATE_URL], fresh_until=0.0)
    assert refusal("paypal", signed(key), PAYPAL_EVENT, time.time(), paypal=sender) == "signature", "it was withdrawn"


def test_forged_postbacks_cost_few_calls(authority: Authority) -> None:
    asked: list[bytes] = []

    def answer(request: Request) -> Reply:
        if request.path == "/v1/oauth2/token":
            return Reply(body=b'{"access_token":"T","expires_in":32400}')
        asked.append(request.body)
        genuine = b"genuine" in request.body
        return Reply(body=b'{"verification_status":"%s"}' % (b"SUCCESS" if genuine else b"FAILURE"))

    key, _ = make_leaf(authority)
    with serving(answer) as url:
        api = PayPalApi("id", "secret", base_url=url, allow_private=True)
        sender = PayPal("W1", way="postback", api=api)

        def reason(id: str) -> str:
            try:
                return check("paypal", signed(key, id=id), PAYPAL_EVENT, time.time(), paypal=sender).transmission
            except Refused as refused:
                return refused.reason

        assert {reason(f"genuine-{n}") for n in range(40)} == {f"genuine-{n}" for n in range(40)}
        assert [reason(f"forged-{n}") for n in range(35)] == ["signature"] * 30 + ["rate"] * 5
        assert len(asked) == 70
