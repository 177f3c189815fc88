"""An event's tenant and trace, from the publisher to the handler and on."""

from __future__ import annotations

import json
import logging
import threading
from contextlib import nullcontext
from typing import Any

import fourlane
from fourlane.events import catalogue, hooks, messages
from fourlane.events.aws import Aws
from fourlane.events.direct import Direct
from fourlane.events.envelope import Event
from fourlane.events.names import EventQueue
from fourlane.events.provision import ensure
from fourlane.events.publisher import Publisher
from fourlane.observe import logs
from fourlane.outcome import Outcome
from fourlane.queues import browse
from fourlane.queues.broker import RedisBroker
from fourlane.telling import Ends, Observer
from tests.command import Command
from tests.command import command as command
from tests.conftest import Hear
from tests.events.conftest import Receive, drain, queue_of
from tests.observe.receivers import Receiver
from tests.servers import eventually
from tests.worker.conftest import RunWorker


def test_its_tenant_and_trace_go_along(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, run_receivers: Receive,
    run_worker: RunWorker,
) -> None:  # fmt: skip
    ensure(aws, queue_of(event + "-after"))
    ran: list[Any] = []

    @fourlane.on_event(event)
    def on(given: Event) -> None:
        ran.append((fourlane.current_job(), publisher.publish(event + "-after", {}, tenant=given.data)))

    trace = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"

    class Trace(hooks.Hooks):
        def trace_context(self) -> tuple[str, str]:
            return (trace, "a=b")

    hooks.add(watching := Trace())
    try:
        run_receivers(broker)
        publisher.publish(event, None, tenant="acme")
        publisher.publish(event, "", tenant="acme")
        publisher.publish(event, None)
        entries = eventually(lambda: len(found := ready(broker)) == 3 and found)
    finally:
        hooks.remove(watching)
    options = {"traceparent": trace, "tracestate": "a=b"}
    whole = [options, options | {"tenant": "acme"}, options | {"tenant": "acme"}]
    assert sorted((browse.job(broker.store, i).options for i in entries), key=len) == whole
    run_worker(broker)
    eventually(lambda: len(ran) == 3)
    assert sorted(job.tenant for job, _ in ran) == ["", "acme", "acme"]
    after = [json.loads(message.body) for message in drain(aws, queue_of(event + "-after"))]
    tenants = {one["id"]: one.get("tenant") for one in after}
    # What a handler publishes is of the event's tenant, unless it says another.
    assert sorted(str(tenants[published.id]) for _, published in ran) == ["None", "None", "acme"]


def ready(broker: RedisBroker) -> list[str]:
    key = broker.store.service("default").ready[1]
    return [entry.decode().split("|")[0] for entry in broker.store.connector.command(key, "LRANGE", key, 0, -1)]


def test_whoever_watches_jobs_sees_handlers_straight_from_sqs(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, hear: Hear
) -> None:
    seen: list[Any] = []
    lines: list[dict[str, Any]] = []

    class Watch(Observer):
        def began(self, run: Any) -> None:
            seen.append(f"began {run.plan.name}")

        def failed(self, run: Any, error: BaseException, outcome: Outcome) -> None:
            seen.append((run.plan.name, str(error), type(outcome).__name__))

        def turned(self, ends: Ends) -> None:
            [(run, outcome)] = ends.runs
            seen.append(
                (ends.service, run.id, run.tenant, run.attempt, type(outcome).__name__, run.ended_at >= run.started)
            )

    @fourlane.on_event(event, through="direct", service="audits")
    def works(given: Event) -> None:
        lines.append(json.loads(line("fourlane")))

    @fourlane.on_event(event, through="direct", service="audits")
    def fails(given: Event) -> None:
        raise ValueError("no")

    hear(Watch())
    publisher.publish(event, 1, id="1" * 32, tenant="acme")
    stopping = threading.Event()
    worker = Direct(aws, broker.store, catalogue.handlers(), stopping, name="w")
    [message] = eventually(lambda: messages.receive(aws, queue, wait_seconds=1))
    worker.take(queue, [message])
    eventually(lambda: not worker.in_hand())
    stopping.set()
    worker.stop(0.2)
    assert [one for one in seen if isinstance(one, str)] == [f"began on {event}: works", f"began on {event}: fails"]
    assert [one for one in seen if isinstance(one, tuple)] == [
        ("audits", f"{'1' * 32}:on {event}: works", "acme", 1, "Done", True),
        (f"on {event}: fails", "no", "Retry"),
        ("audits", f"{'1' * 32}:on {event}: fails", "acme", 1, "Retry", True),
    ]
    assert lines[0]["metadata"]["organization_id"] == "acme"
    assert lines[0]["metadata"]["task"] == f"on {event}: works"


def line(service: str) -> str:
    """A log line as machines get it."""
    record = logging.makeLogRecord({"msg": "hello", "name": "test"})
    return logs._Json(service).format(record)


def test_a_publish_within_a_trace_is_a_part_of_it(
    aws: Aws, publisher: Publisher, queue: EventQueue, event: str, hear: Hear
) -> None:
    entered: list[tuple[str, str, int]] = []

    class Traces(Observer):
        def sending(self, queue: str, task: str, number: int = 1) -> Any:
            entered.append((queue, task, number))
            return nullcontext({"traceparent": "00-11", "tracestate": "a=b"})

    hear(Traces())
    publisher.publish_many(event, [1, 2])
    assert entered == [(f"local.events.{event}", event, 2)]
    sent = [json.loads(message.body) for message in drain(aws, queue)]
    assert [(one["traceparent"], one["tracestate"]) for one in sent] == [("00-11", "a=b")] * 2


HANDLERS = """
import fourlane

@fourlane.on_event("{platform}", service="shop")
def moved(event): ...

@fourlane.on_event("{audit}", service="shop")
def straight(event):
    raise RuntimeError("no")
"""


def test_spans_of_real_workers_and_receivers(command: Command, event: str, aws: Aws) -> None:
    """One trace from the publisher's span to the handler, whichever way the event goes."""
    audit = event.replace("platform", "audit")
    module = command.module("shop", HANDLERS.format(platform=event, audit=audit))
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"

    class Trace(hooks.Hooks):
        def trace_context(self) -> tuple[str, str]:
            return (trace, "")

    with Receiver() as collector, Publisher(aws, environment="local", source="/tests") as publisher:
        command.env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "FOURLANE_TRACE_PERCENT": "100"}
        for name in (event, audit):
            ensure(aws, queue_of(name))
        hooks.add(watching := Trace())
        try:
            publisher.publish(event, {}, tenant="acme")
            publisher.publish(audit, {}, tenant="acme")
        finally:
            hooks.remove(watching)
        worker = command.start("worker", module)

        def of_handlers() -> dict[str, Any]:
            spans = [span for span in collector.spans() if span["name"].startswith("process ")]
            return {span["attributes"]["operation"]: span for span in spans}

        names = {f"on {event}: moved", f"on {audit}: straight"}
        eventually(lambda: set(of_handlers()) == names, 40)
        for span in of_handlers().values():
            assert span["attributes"]["organization_id"] == "acme"
            assert (span["trace"], span["parent"]) == ("a" * 32, "b" * 16)
        assert of_handlers()[f"on {audit}: straight"]["attributes"]["status"] == "error"
        worker.terminate()
        worker.wait(30)
