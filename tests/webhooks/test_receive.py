"""From the request to the job: gates, answers, repetitions, order, and the endpoint itself."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import dramatiq.broker
import pytest
import stripe

from fourlane import crypto
from fourlane.names import Queue, Tier
from fourlane.queues.broker import RedisBroker
from fourlane.retry import Backoff, Policy
from fourlane.webhooks import handlers
from fourlane.webhooks.handlers import Event, handle, on_webhook
from fourlane.webhooks.receive import Receiver, Refusal
from fourlane.webhooks.verify import Senders
from fourlane.worker.loop.loop import Loop
from tests.conftest import StartServer
from tests.servers import Server, eventually

SECRET = "whsec_test_of_this_suite"


@pytest.fixture
def broker(redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisBroker]:
    with opened_there(redis_url, namespace, monkeypatch) as opened:
        yield opened


class opened_there:
    """A broker, and the task of this module there."""

    def __init__(self, url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = RedisBroker(url=url, namespace=namespace)
        self.before = dramatiq.broker.global_broker
        monkeypatch.setattr(handlers, "_handlers", [])
        # The task was declared with the broker of the time of its import.
        monkeypatch.setattr(handle, "broker", self.made)
        self.made.declare_actor(handle)

    def __enter__(self) -> RedisBroker:
        dramatiq.set_broker(self.made)
        return self.made

    def __exit__(self, *_: object) -> None:
        self.made.close()
        dramatiq.broker.global_broker = self.before


@pytest.fixture
def work(broker: RedisBroker) -> Iterator[Callable[..., None]]:
    """Runs a worker until all is done."""
    loops: list[tuple[Loop, threading.Thread]] = []

    def run(until: Callable[[], bool] = lambda: not _waiting(broker)) -> None:
        loop = Loop(broker, [Queue("webhooks", tier) for tier in Tier], name="w", slots=4, grace_seconds=2.0)
        thread = threading.Thread(target=loop.run, daemon=True)
        thread.start()
        loops.append((loop, thread))
        eventually(until)

    yield run
    for loop, thread in loops:
        loop.stop()
        thread.join(10)


def _waiting(broker: RedisBroker) -> int:
    keys = broker.store.service("webhooks")
    return int(broker.store.connector.command(keys.jobs, "HLEN", keys.jobs))


def event(id: str = "evt_1", type: str = "invoice.paid", created: int = 1_768_726_000, subject: str = "in_1") -> bytes:
    return json.dumps({"id": id, "type": type, "created": created, "data": {"object": {"id": subject}}}).encode()


def headers(body: bytes, at: float | None = None) -> dict[str, str]:
    moment = int(time.time() if at is None else at)
    return {"Stripe-Signature": stripe.WebhookSignature.generate_signature_header(body.decode(), SECRET, moment)}


def receiver(**options: Any) -> Receiver:
    return Receiver(Senders(stripe_secrets=[SECRET]), **options)


def test_an_event_for_an_encrypted_handler_is_not_readable(broker: RedisBroker, work: Callable[[], None]) -> None:
    seen: list[Event] = []

    @on_webhook("stripe", "invoice.paid", name="book", broker=broker, encrypt=True)
    def book(event: Event) -> None:
        seen.append(event)

    body = event(subject="in_secret")
    crypto.configure(crypto.Keyring([crypto.new_key()]))
    try:
        assert receiver().receive("stripe", headers(body), body).status == 200
        kept = broker.client.hvals(broker.store.service("webhooks").jobs)
        assert len(kept) == 1
        assert b"in_secret" not in kept[0]
        work()
    finally:
        crypto.configure(None)
    assert [event.subject for event in seen] == ["in_secret"]


def test_an_event_becomes_a_job_for_each_handler(broker: RedisBroker, work: Callable[[], None]) -> None:
    seen: list[tuple[str, Event]] = []

    @on_webhook("stripe", "invoice.paid", name="book", broker=broker)
    def book(event: Event) -> None:
        seen.append(("book", event))

    @on_webhook("stripe", "invoice.*", name="all_invoices", broker=broker)
    def all_invoices(event: Event) -> None:
        seen.append(("all", event))

    @on_webhook("stripe", "charge.refunded", name="other", broker=broker)
    def other(event: Event) -> None:
        seen.append(("other", event))

    body = event()
    answer = receiver().receive("stripe", headers(body), body)
    assert answer.status == 200
    work()
    assert sorted(name for name, _ in seen) == ["all", "book"]
    got = seen[0][1]
    assert (got.id, got.type, got.subject, got.created_at_ms) == ("evt_1", "invoice.paid", "in_1", 1_768_726_000_000)
    assert got.payload == json.loads(body)


def test_the_same_event_again_is_answered_and_does_nothing(broker: RedisBroker, work: Callable[[], None]) -> None:
    seen: list[str] = []

    @on_webhook("stripe", "*", name="count", broker=broker)
    def count(event: Event) -> None:
        seen.append(event.id)

    body = event()
    taker = receiver()
    first = taker.receive("stripe", headers(body), body)
    # At the same time, many: as a provider does that lost our answer.
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: answers.append(taker.receive("stripe", headers(body), body).body))
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == {first.body}
    work()
    assert seen == ["evt_1"]
    assert taker.receive("stripe", headers(body, time.time() - 200), body).body == first.body  # long done, still known
    work()
    assert seen == ["evt_1"]


def test_handling_twice_adds_no_job_twice(broker: RedisBroker) -> None:
    @on_webhook("stripe", "*", name="one", broker=broker)
    def one(event: Event) -> None: ...

    given = {
        "provider": "stripe",
        "id": "evt_1",
        "type": "x",
        "created_at_ms": None,
        "subject": "",
        "payload": {},
        "late": False,
    }
    assert handle.fn(given) == handle.fn(given)  # as after a crash before the job was settled
    assert _waiting(broker) == 1


@pytest.mark.parametrize("kind", ["plain", "async", "wrapped async"])
def test_events_out_of_order_are_marked_late(broker: RedisBroker, work: Callable[[], None], kind: str) -> None:
    seen: dict[str, bool] = {}

    def order(event: Event) -> None:
        seen[event.id] = event.late

    async def order_async(event: Event) -> None:
        await asyncio.sleep(0)
        seen[event.id] = event.late

    function = {"plain": order, "async": order_async, "wrapped async": lambda event: order_async(event)}[kind]
    on_webhook("stripe", "*", name="order", broker=broker)(function)

    taker = receiver()

    def take(id: str, created: int, subject: str = "sub_1") -> None:
        body = event(id, "customer.subscription.updated", created, subject)
        assert taker.receive("stripe", headers(body), body).status == 200
        work()

    take("second", 1_768_726_002)
    take("first", 1_768_726_001)
    take("same-second", 1_768_726_002)
    take("third", 1_768_726_003)
    take("another-thing", 1_768_726_000, "sub_2")
    assert seen == {"second": False, "first": True, "same-second": False, "third": False, "another-thing": False}


def test_a_handler_that_failed_has_handled_nothing(broker: RedisBroker, work: Callable[[], None]) -> None:
    runs: list[bool] = []

    @on_webhook("stripe", "*", name="fails", broker=broker, max_retries=1)
    def fails(event: Event) -> None:
        runs.append(event.late)
        if len(runs) == 1:
            raise RuntimeError("the first time")

    body = event()
    receiver().receive("stripe", headers(body), body)
    work()
    assert runs == [False, False]


def test_refusals_are_told_and_answered_in_few_words(broker: RedisBroker) -> None:
    told: list[Refusal] = []
    body = event()
    taker = receiver(report=told.append, max_bytes=1000, allow={"stripe": ["10.1.0.0/16", "2001:db8::/32"]})

    def status(provider: str = "stripe", address: str = "10.1.2.3", given: Any = None, sent: bytes = body) -> int:
        return taker.receive(provider, headers(body) if given is None else given, sent, address=address).status

    assert status() == 200
    assert status(address="::ffff:10.1.2.3") == 200
    assert status(address="2001:db8::1") == 200
    assert told == []
    assert status(address="10.2.0.1") == 403
    assert status(address="") == 403
    assert status(given={}) == 401
    assert status(given=headers(body, time.time() - 600)) == 401
    assert status(sent=b"x" * 1001) == 413
    assert status("paypal") == 503  # nobody has told us PayPal's webhook id: it shall come again
    assert status("github") == 404
    assert [refusal.reason for refusal in told] == [
        "address",
        "address",
        "signature",
        "age",
        "size",
        "not configured",
        "unknown provider",
    ]
    # Which gate it was is not for the sender.
    forged, old = (taker.receive("stripe", h, body, address="10.1.2.3") for h in ({}, headers(body, 1)))
    assert forged == old
    assert _waiting(broker) == 1


def test_a_flood_of_forgeries_is_told_of_in_measure(broker: RedisBroker) -> None:
    told: list[Refusal] = []
    now = [1_768_726_800.0]
    taker = receiver(report=told.append, clock=lambda: now[0])
    for _ in range(500):
        assert taker.receive("stripe", {}, b"{}").status == 401
    assert len(told) == 60
    now[0] += 60
    taker.receive("stripe", {}, b"{}")
    assert told[-1].unreported == 440


def test_a_record_that_fails_changes_no_answer(broker: RedisBroker) -> None:
    def fail(_: Refusal) -> None:
        raise RuntimeError("the database is away")

    assert receiver(report=fail).receive("stripe", {}, b"{}").status == 401


def test_with_redis_away_the_sender_shall_come_again(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Server = start_server()
    body = event()
    with opened_there(server.url, "x", monkeypatch):
        server.stop()
        assert receiver().receive("stripe", headers(body), body).status == 503
        server.start()
        assert receiver().receive("stripe", headers(body), body).status == 200


@pytest.mark.parametrize("provider", ["github", ""])
def test_handlers_are_checked_when_they_are_declared(broker: RedisBroker, provider: str) -> None:
    with pytest.raises(ValueError, match="stripe, paypal, supabase"):
        on_webhook(provider, "x")
    for pattern in ("", "*.paid", "in*ice*"):
        with pytest.raises(ValueError, match="no event type"):
            on_webhook("stripe", pattern)


def test_handlers_have_three_more_tries(broker: RedisBroker) -> None:
    """After 1, 2 and 4 seconds; another number is the handler's own choice."""

    @on_webhook("stripe", "*", name="usual", broker=broker)
    def usual(event: Event) -> None: ...

    @on_webhook("stripe", "*", name="patient", broker=broker, max_retries=9)
    def patient(event: Event) -> None: ...

    def waits(made: Any) -> list[int | None]:
        retries, backoff = made.options["max_retries"], made.options["backoff"]
        policy = Policy(max_retries=retries, backoff=backoff)
        return [policy.again_in_ms(RuntimeError(), attempt) for attempt in range(1, 6)]

    assert waits(usual) == waits(handle) == [1_000, 2_000, 4_000, None, None]
    assert waits(patient) == [1_000, 2_000, 4_000, 4_000, 4_000]
    slow = on_webhook("stripe", "*", name="slow", broker=broker, min_backoff=60_000)(lambda event: None)
    assert (slow.options["max_retries"], slow.options.get("backoff")) == (3, None), "its own times are not overruled"


def test_a_handler_that_fails_for_ever_is_a_dead_letter(broker: RedisBroker, work: Callable[..., None]) -> None:
    runs: list[str] = []

    @on_webhook("stripe", "*", name="hopeless", broker=broker, backoff=Backoff(min_ms=1, max_ms=1))
    def hopeless(event: Event) -> None:
        runs.append(event.id)
        raise RuntimeError("never")

    body = event()
    assert receiver().receive("stripe", headers(body), body).status == 200
    keys = broker.store.service("webhooks")
    work(until=lambda: broker.client.zcard(keys.dead[1]) == 1)
    assert runs == ["evt_1"] * 4


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"id":"evt_7","type":"x","amount":NaN}', "no job can carry its body: JSON is malformed"),
        (b'{"id":"evt_7","type":"x","amount":1e999}', "no job can carry its body: Number out of range"),
        (b'{"id":"evt_7","type":"x","name":"\\ud800"}', "no job can carry its body"),
        (b'{"id":"evt_7","type":"x","amount":' + b"9" * 10_000 + b"}", "no job can carry its body: Integer value out"),
        (b'{"id":"evt_7","type":"x","in":' + b"[" * 500 + b"]" * 500 + b"}", "nested over 500 deep"),
        (b'{"id":"evt_7","type":"x","in":' + b"[" * 999 + b"]" * 999 + b"}", "no job can carry its body"),
        (b'{"id":"evt_7","type":7}', "it has no type"),
    ],
)
def test_what_is_genuine_and_no_job_can_carry_is_told_of(
    broker: RedisBroker, caplog: pytest.LogCaptureFixture, body: bytes, detail: str
) -> None:
    told: list[Refusal] = []
    assert receiver(report=told.append).receive("stripe", headers(body), body).status == 400
    [refusal] = told
    assert refusal.reason == "unusable"
    assert detail in refusal.detail
    # With what finds it at the provider: nobody here has it.
    assert f"id evt_7, {len(body):,} bytes, SHA-256 {hashlib.sha256(body).hexdigest()[:16]}" in refusal.detail
    [line] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "\n" not in line.getMessage()
    assert line.exc_info is None
    assert _waiting(broker) == 0


def test_what_is_nested_in_measure_is_handled(broker: RedisBroker, work: Callable[[], None]) -> None:
    seen: list[str] = []

    @on_webhook("stripe", "x")
    def nested(event: Event) -> None:
        seen.append(json.dumps(event.payload["in"]))

    deep = "[" * 498 + "]" * 498
    body = f'{{"id":"evt_8","type":"x","in":{deep}}}'.encode()
    assert receiver().receive("stripe", headers(body), body).status == 200
    work()
    assert seen == [deep]


def test_what_strangers_write_is_kept_readable(broker: RedisBroker) -> None:
    told: list[Refusal] = []
    answer = receiver(report=told.append).receive("no\x00\n\ud800é" * 100, {}, b"", address="1.2.3.4\n")
    assert answer.status == 404
    [refusal] = told
    assert (refusal.provider, refusal.address) == ("another", "1.2.3.4")
    assert refusal.detail.isascii()
    assert refusal.detail.isprintable()


def test_a_fault_of_ours_is_no_exception(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*again: object, **_: object) -> str:
        return fail(*again)

    monkeypatch.setattr("fourlane.webhooks.receive.enqueue_once", fail)
    body = event()
    answer = receiver().receive("stripe", headers(body), body)
    assert (answer.status, answer.headers) == (503, (("Retry-After", "10"),))
    [record] = caplog.records
    assert "by a fault of ours: RecursionError: maximum" in record.getMessage()
    assert (record.getMessage().count("\n") < 20, record.exc_info) == (True, None)


@pytest.mark.parametrize("given", [{"Stripe-Signature": 7}, {7: "x"}, None])
def test_headers_that_are_none(broker: RedisBroker, given: Any) -> None:
    """As a framework may hand them on."""
    told: list[Refusal] = []
    assert receiver(report=told.append).receive("stripe", given, b"{}").status == 400
    assert [refusal.reason for refusal in told] == ["malformed"]
