"""Deliveries: what is signed, what an answer means, and both against a real receiver."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from itertools import islice
from types import SimpleNamespace
from typing import Any

import dramatiq.errors
import httpx
import pytest
import svix.webhooks
from hypothesis import given
from hypothesis import strategies as st

from examples.deliveries import receiver as receiver_example
from examples.deliveries.payloads import events
from examples.deliveries.receiver import DEMO_SECRET, Receiver
from fourlane.config import load_settings
from fourlane.errors import Reject
from fourlane.names import Tier
from fourlane.providers import http
from fourlane.providers.http import names
from fourlane.providers.retry_after import retry_after_ms
from fourlane.root import Root
from fourlane.tasks.webhooks import attempt as attempts
from fourlane.tasks.webhooks import policy
from fourlane.tasks.webhooks.attempt import Delivered, DeliveryFailed, id_here
from fourlane.tasks.webhooks.delivery import deliver
from fourlane.tasks.webhooks.judging import Judgement, judge
from fourlane.tasks.webhooks.signing import encode, sign

NOW = 1_768_726_800  # Sun, 18 Jan 2026 09:00:00 GMT
SECRET = "whsec_" + base64.b64encode(bytes(range(200, 232))).decode()


@pytest.fixture(autouse=True)
def _policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "_policy", policy._policy)  # put back what the test configures
    policy.configure(allow_private=True, timeout_seconds=10)


def attempt(url: str, payload: Any, **options: Any) -> Delivered:
    return asyncio.run(attempts.attempt(url, payload, **options))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


# --- Signing ---------------------------------------------------------------------------------------


@given(payload=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_another_library_accepts_our_signature(payload: object) -> None:
    body = encode(payload)
    headers = sign(body, webhook_id="job-1", at_seconds=int(time.time()), secret=SECRET)
    svix.webhooks.Webhook(SECRET).verify(body, headers)
    assert json.loads(body) == payload


@pytest.mark.parametrize("change", ["body", "id", "time", "secret"])
def test_another_library_refuses_what_was_changed(change: str) -> None:
    body, secret, now = b'{"a":1}', SECRET, int(time.time())
    headers = sign(body, webhook_id="job-1", at_seconds=now, secret=secret)
    match change:
        case "body":
            body = b'{"a":2}'
        case "id":
            headers["webhook-id"] = "job-2"
        case "time":
            headers["webhook-timestamp"] = str(now + 1)
        case "secret":
            secret = DEMO_SECRET
    with pytest.raises(svix.webhooks.WebhookVerificationError):
        svix.webhooks.Webhook(secret).verify(body, headers)


def test_a_known_signature() -> None:
    """The example of the Standard Webhooks and Svix documents."""
    headers = sign(
        b'{"test": 2432232314}',
        webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        at_seconds=1614265330,
        secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize(
    "secret",
    [
        SECRET,
        SECRET.removeprefix("whsec_"),
        SECRET.rstrip("="),  # some dashboards cut the padding off
    ],
)
def test_ways_to_write_the_same_secret(secret: str) -> None:
    headers = sign(b"{}", webhook_id="job-1", at_seconds=NOW, secret=secret)
    assert headers == sign(b"{}", webhook_id="job-1", at_seconds=NOW, secret=SECRET)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "my-hidden-secret!",  # the library would skip "-" and "!" and sign with the rest
        "whsk_aGlkZGVuLXNlY3JldA==",  # the private key of another scheme
        "whsec_aGlkZGVuLXNlY3Jl\ndA==",
        "whsec_hidden-sécret",
        "whsec_hidde",  # 5 letters are no base64 of anything
    ],
)
def test_a_wrong_secret_is_rejected_without_showing_it(secret: str) -> None:
    with pytest.raises(Reject, match="secret is not base64") as caught:
        sign(b"{}", webhook_id="job-1", at_seconds=NOW, secret=secret)
    assert "hid" not in str(caught.value)
    assert "aGl" not in str(caught.value)
    assert caught.value.__context__ is None


def test_without_a_secret_nothing_is_signed() -> None:
    headers = sign(b"{}", webhook_id="job-1", at_seconds=NOW, secret=None)
    assert headers == {"webhook-id": "job-1", "webhook-timestamp": str(NOW)}


@pytest.mark.parametrize("webhook_id", ["", "a.b", "a b", "a\r\nb", "ä"])
def test_an_id_that_would_blur_the_signed_text_is_rejected(webhook_id: str) -> None:
    with pytest.raises(Reject, match="no webhook-id"):
        sign(b"{}", webhook_id=webhook_id, at_seconds=NOW, secret=SECRET)


# --- What an answer means --------------------------------------------------------------------------


def answer(status: int, body: bytes = b"", **headers: str) -> http.Response:
    named = httpx.Headers(
        [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    )
    return http.Response(status, named, body, elapsed_ms=1.0)


def test_every_status_means_something() -> None:
    verdicts = {status: judge(answer(status), now_seconds=NOW).verdict for status in (*range(200, 600), 999)}
    done = {status for status, verdict in verdicts.items() if verdict == "done"}
    retried = {status for status, verdict in verdicts.items() if verdict == "retry"}
    assert done == set(range(200, 300))
    assert retried == {408, 425, 429, *range(500, 600)}
    assert verdicts[410] == verdicts[404] == verdicts[302] == verdicts[307] == verdicts[999] == "dead"


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (answer(410), "HTTP 410 Gone"),
        (answer(400, b'{"error":\r\n "no"}'), 'HTTP 400 Bad Request: {"error": "no"}'),
        (answer(503, b"x" * 5_000), "HTTP 503 Service Unavailable: " + "x" * 200),
        (answer(404, b"\xff"), "HTTP 404 Not Found: \ufffd"),
        (answer(599), "HTTP 599"),
    ],
)
def test_the_reason_is_one_short_line(response: http.Response, reason: str) -> None:
    assert judge(response, now_seconds=NOW).reason == reason


@pytest.mark.parametrize(
    ("value", "after_ms"),
    [
        ("7", 7_000),
        (" 7 ", 7_000),
        ("1.5", 1_500),
        ("3600", 3_600_000),
        ("3601", 3_600_000),  # an hour at most
        ("9" * 5_000, 3_600_000),
        ("Sun, 18 Jan 2026 09:00:30 GMT", 30_000),
        ("Sunday, 18-Jan-26 09:00:30 GMT", 30_000),  # RFC 850
        ("Sun Jan 18 09:00:30 2026", 30_000),  # asctime
        ("Sun, 18 Jan 2026 10:00:30 +0100", 30_000),
        ("Mon, 19 Jan 2026 09:00:00 GMT", 3_600_000),
        # Asks for no wait, or makes no sense: the task's own backoff.
        ("0", None),
        ("Sun, 18 Jan 2026 08:59:00 GMT", None),
        ("-5", None),
        ("²", None),  # a digit to Python, but no number
        ("soon", None),
        ("Sun, 99 Jan 2026 09:00:30 GMT", None),
        ("", None),
    ],
)
def test_retry_after(value: str, after_ms: int | None) -> None:
    outcome = judge(answer(429, retry_after=value), now_seconds=NOW)
    assert outcome == Judgement("retry", "HTTP 429 Too Many Requests", after_ms)


@given(st.text())
def test_no_retry_after_breaks_the_judgement(value: str) -> None:
    after_ms = retry_after_ms({"retry-after": value}, now_seconds=NOW)
    assert after_ms is None or 0 <= after_ms <= 3_600_000


def test_retry_after_counts_only_for_a_retry() -> None:
    assert judge(answer(404, retry_after="7"), now_seconds=NOW).after_ms is None


# --- One attempt -----------------------------------------------------------------------------------


def test_a_delivery_is_signed_and_accepted(receiver: Receiver) -> None:
    event = next(events(seed=1))
    result = attempt(f"{receiver.url}/ok", event.payload, webhook_id=event.id, secret=DEMO_SECRET)
    assert result["status"] == 200
    assert json.loads(result["body"]) == {"received": True, "id": event.id}
    assert result["elapsed_ms"] >= 0
    assert receiver.stats()["paths"]["/ok"] == {
        "requests": 1,
        "distinct": 1,
        "accepted": 1,
        "duplicates": 0,
    }


def test_a_result_can_be_stored_as_json(receiver: Receiver) -> None:
    result = attempt(f"{receiver.url}/ok", {}, webhook_id="job-1", secret=DEMO_SECRET)
    assert json.loads(json.dumps(result)) == result


def test_a_flaky_receiver_is_retried_under_the_same_id(receiver: Receiver) -> None:
    for _ in range(2):
        with pytest.raises(DeliveryFailed, match="HTTP 503"):
            attempt(f"{receiver.url}/flaky", {}, webhook_id="job-1", secret=DEMO_SECRET)
    attempt(f"{receiver.url}/flaky", {}, webhook_id="job-1", secret=DEMO_SECRET)
    stats = receiver.stats()["paths"]["/flaky"]
    assert (stats["requests"], stats["distinct"], stats["accepted"]) == (3, 1, 1)


@pytest.mark.parametrize(
    ("path", "error", "reason"),
    [
        ("/dead", DeliveryFailed, "^HTTP 500 Internal Server Error: "),
        ("/gone", Reject, "^HTTP 410 Gone: "),
        ("/nowhere", Reject, "^HTTP 404 Not Found: "),
    ],
)
def test_what_is_raised(receiver: Receiver, path: str, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        attempt(receiver.url + path, {}, webhook_id="job-1", secret=DEMO_SECRET)


def test_a_receiver_with_another_secret_refuses(receiver: Receiver) -> None:
    with pytest.raises(Reject, match="HTTP 401"):
        attempt(f"{receiver.url}/ok", {}, webhook_id="job-1", secret=SECRET)
    with pytest.raises(Reject, match="HTTP 401"):
        attempt(f"{receiver.url}/ok", {}, webhook_id="job-1")
    assert receiver.stats()["unverified"] == 2
    assert receiver.stats()["paths"]["/ok"]["requests"] == 0


def test_retry_after_reaches_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    async def say(url: str, **options: object) -> http.Response:
        return answer(503, retry_after="90")

    monkeypatch.setattr(http, "apost", say)
    with pytest.raises(dramatiq.errors.Retry, match="HTTP 503") as caught:
        attempt("http://hook.example/", {}, webhook_id="job-1")
    assert caught.value.delay == 90_000


def test_a_refused_target_is_rejected() -> None:
    policy.configure(allow_private=False, timeout_seconds=10)
    allowed_by = "FOURLANE_WEBHOOK_ALLOW_PRIVATE=true allows it"
    with pytest.raises(Reject, match=rf"refused: 127\.0\.0\.1 is a loopback address; {allowed_by}"):
        attempt("http://127.0.0.1:8999/", {}, webhook_id="job-1")


def test_without_tls_in_production_only_where_it_is_allowed(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    url = f"{receiver.url}/ok"
    for environment, allowed, is_taken in (("staging", "", True), ("production", "", False), ("production", "1", True)):
        settings = load_settings(
            environment=environment,
            redis_url="redis://h",
            webhook_allow_private=True,
            webhook_allow_http=bool(allowed),
        )
        by = policy.policy_of(Root(settings))
        if is_taken:
            assert attempt(url, {}, webhook_id="job-1", secret=DEMO_SECRET, by=by)["status"] == 200
        else:
            with pytest.raises(Reject, match="https://; FOURLANE_WEBHOOK_ALLOW_HTTP=true allows http://"):
                attempt(url, {}, webhook_id="job-1", by=by)


def test_the_operators_log_says_what_tenants_do_not_learn(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(names, "_lookup", lambda host: ["10.0.0.5"])
    policy.configure(allow_private=False, timeout_seconds=10)
    with pytest.raises(DeliveryFailed) as caught:
        attempt("https://db.internal/", {}, webhook_id="job-1")
    assert str(caught.value) == "DNS: the name leads to no address that may be called"
    assert "db.internal is a private address; FOURLANE_WEBHOOK_ALLOW_PRIVATE=true allows it" in caplog.text


def test_a_receiver_that_is_down_is_retried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(DeliveryFailed, match=r"^connection refused$"):
        attempt(f"http://127.0.0.1:{port}/", {}, webhook_id="job-1")


def test_a_slow_receiver_is_retried(receiver: Receiver) -> None:
    policy.configure(allow_private=True, timeout_seconds=0.1)
    with pytest.raises(DeliveryFailed, match=r"^timeout"):
        attempt(f"{receiver.url}/slow", {}, webhook_id="job-1", secret=DEMO_SECRET)


def test_headers_are_sent_but_ours_win(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, str] = {}

    async def note(url: str, *, headers: dict[str, str], **options: object) -> http.Response:
        sent.update(headers)
        return answer(200)

    monkeypatch.setattr(http, "apost", note)
    given_headers = {
        "Authorization": "Bearer x",
        "Webhook-Id": "forged",
        "Content-Type": "application/cloudevents+json",
    }
    attempt("http://hook.example/", {}, webhook_id="job-1", headers=given_headers)
    assert sent["authorization"] == "Bearer x"
    assert sent["webhook-id"] == "job-1"
    assert sent["content-type"] == "application/cloudevents+json"
    assert len({name.lower() for name in sent}) == len(sent)


@pytest.mark.parametrize("payload", [float("nan"), {1, 2}, b"bytes"])
def test_a_payload_that_is_no_json_is_rejected(payload: object) -> None:
    with pytest.raises(Reject, match="payload is not JSON"):
        attempt("http://hook.example/", payload, webhook_id="job-1")


# --- The task --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("event_id", "webhook_id"), [("evt_1", "evt_1"), (None, "job-1")])
def test_the_task_delivers_under_the_event_or_the_job_id(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver, event_id: str | None, webhook_id: str
) -> None:
    monkeypatch.setattr(attempts, "current_job", lambda: SimpleNamespace(id="job-1", attempt=2))
    result = deliver(f"{receiver.url}/ok", {"a": 1}, secret=DEMO_SECRET, event_id=event_id)
    assert json.loads(result["body"]) == {"received": True, "id": webhook_id}


def test_the_task_retries_after_1_2_and_4_seconds() -> None:
    options = deliver.options
    assert options["max_retries"] == 3
    assert [options["backoff"].delay_ms(attempt) for attempt in (1, 2, 3)] == [1_000, 2_000, 4_000]
    assert (deliver.service, deliver.tier) == ("webhooks", Tier.P1)


def test_outside_of_a_job_each_call_has_an_id_of_its_own() -> None:
    first, second = id_here(), id_here()
    assert first != second
    assert sign(b"{}", webhook_id=first, at_seconds=NOW, secret=None)["webhook-id"] == first


@pytest.mark.parametrize("timeout_seconds", [0, -1, 60, float("nan"), float("inf")])
def test_a_timeout_must_end_before_the_job_does(timeout_seconds: float) -> None:
    with pytest.raises(ValueError, match="timeout_seconds"):
        policy.configure(allow_private=False, timeout_seconds=timeout_seconds)


def test_the_first_delivery_takes_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "_policy", None)
    monkeypatch.setenv("FOURLANE_WEBHOOK_ALLOW_PRIVATE", "true")
    monkeypatch.setenv("FOURLANE_WEBHOOK_TIMEOUT_SECONDS", "59")
    given: dict[str, object] = {}

    async def note(url: str, **options: object) -> http.Response:
        given.update(options)
        return answer(200)

    monkeypatch.setattr(http, "apost", note)
    attempt("http://hook.example/", {}, webhook_id="job-1")
    assert (given["allow_private"], given["timeout_seconds"]) == (True, 59)


def test_a_producer_needs_no_http_client(redis_url: str, namespace: str) -> None:
    program = (
        "import sys; from fourlane.tasks.webhooks.delivery import deliver; deliver.send('https://hook.example', {}); "
        "assert not {'httpx', 'h11', 'standardwebhooks'} & set(sys.modules), 'heavy'"
    )
    env = os.environ | {"REDIS_URL": redis_url, "FOURLANE_NAMESPACE": namespace}
    subprocess.run([sys.executable, "-c", program], check=True, env=env)


# --- The examples ----------------------------------------------------------------------------------


def test_the_same_seed_makes_the_same_events() -> None:
    made = list(events(seed=7, count=500))
    assert made == list(events(seed=7, count=500)) == list(islice(events(seed=7), 500))
    assert made != list(events(seed=8, count=500))
    assert len({event.id for event in made}) == 500
    assert {event.source for event in made} == {"stripe", "paypal", "supabase"}


def test_every_kind_of_event_is_delivered(receiver: Receiver) -> None:
    made = list(events(seed=3, count=60))
    assert len({(event.source, event.type) for event in made}) == 8
    for event in made:
        attempt(f"{receiver.url}/ok", event.payload, webhook_id=event.id, secret=DEMO_SECRET)
    stats = receiver.stats()["paths"]["/ok"]
    assert (stats["requests"], stats["accepted"], stats["duplicates"]) == (60, 60, 0)


def test_a_second_delivery_of_the_same_id_is_a_duplicate(receiver: Receiver) -> None:
    for webhook_id in ("a", "b", "a"):
        attempt(f"{receiver.url}/ok", {}, webhook_id=webhook_id, secret=DEMO_SECRET)
    assert receiver.stats()["paths"]["/ok"] == {
        "requests": 3,
        "distinct": 2,
        "accepted": 2,
        "duplicates": 1,
    }


def test_stats_are_served_as_json(receiver: Receiver) -> None:
    connection = HTTPConnection("127.0.0.1", int(receiver.url.rpartition(":")[2]), timeout=5)
    connection.request("GET", "/stats")
    assert json.loads(connection.getresponse().read()) == receiver.stats()
    connection.close()


def test_the_slow_path_takes_300_to_800_ms() -> None:
    waits = [receiver_example._slowness_seconds(f"job-{n}") for n in range(1_000)]
    assert 0.3 <= min(waits) < 0.32
    assert 0.78 < max(waits) <= 0.8


def test_a_port_in_use_is_said_politely(receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    port = receiver.url.rpartition(":")[2]
    assert receiver_example.main(["--port", port]) == 1
    assert f"Port {port} is in use" in capsys.readouterr().err
