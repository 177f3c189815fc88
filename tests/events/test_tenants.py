"""An event's tenant and trace, from the publisher to the handler and on."""

from __future__ import annotations

import json
import logging
import threading
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
from tests.events.conftest import Receive, drain, queue_of
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
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str
) -> None:
    seen: list[Any] = []
    lines: list[dict[str, Any]] = []

    class Watch:
        def failed(self, run: Any, error: BaseException, outcome: Outcome) -> None:
            seen.append((run.plan.name, str(error), type(outcome).__name__))

        def turned(self, service: str, ended: Any) -> None:
            [(run, outcome)] = ended
            seen.append((service, run.id, run.tenant, run.attempt, type(outcome).__name__, run.ended_at >= run.started))

    @fourlane.on_event(event, through="direct", service="audits")
    def works(given: Event) -> None:
        lines.append(json.loads(line("fourlane")))

    @fourlane.on_event(event, through="direct", service="audits")
    def fails(given: Event) -> None:
        raise ValueError("no")

    publisher.publish(event, 1, id="1" * 32, tenant="acme")
    stopping = threading.Event()
    worker = Direct(aws, broker.store, catalogue.handlers(), stopping, name="w", observer=Watch())  # type: ignore[arg-type]
    [message] = eventually(lambda: messages.receive(aws, queue, wait_seconds=1))
    worker.take(queue, [message])
    eventually(lambda: not worker._deliveries)
    stopping.set()
    worker.stop(0.2)
    assert seen == [
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
