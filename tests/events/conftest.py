"""An SQS server of moto in a process of its own, a clean catalogue, and what tests need to publish and receive."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fourlane.events import catalogue
from fourlane.events.aws import Aws
from fourlane.events.direct import Direct
from fourlane.events.local import REGION, LocalSqs
from fourlane.events.messages import Message, receive
from fourlane.events.mover import Mover
from fourlane.events.names import EventQueue, parse_event
from fourlane.events.provision import ensure
from fourlane.events.publisher import Publisher
from fourlane.events.receiver import Receivers
from fourlane.queues.broker import RedisBroker
from tests.events.fault_proxy import FaultProxy
from tests.servers import eventually, free_port
from tests.worker.conftest import run_worker as run_worker


@pytest.fixture(scope="session")
def moto_server() -> Iterator[LocalSqs]:
    with LocalSqs() as server:
        yield server


@pytest.fixture
def moto(moto_server: LocalSqs) -> Iterator[LocalSqs]:
    """Without queues: whatever looks at all of them would look at those of the tests before."""
    yield moto_server
    bearer = {"Authorization": f"Bearer {moto_server.token}"}
    httpx.post(f"{moto_server.endpoint}/moto-api/reset", headers=bearer).raise_for_status()


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch, moto: LocalSqs, tmp_path: Path) -> None:
    """Nothing a test does reaches AWS."""
    lead_to(moto, monkeypatch, tmp_path)


def lead_to(server: LocalSqs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever asks for AWS comes to this server, whatever is set on this machine."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.keys[1])
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(autouse=True)
def clean_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_types", {})
    monkeypatch.setattr(catalogue, "_handlers", {})


@pytest.fixture
def proxy(moto: LocalSqs) -> Iterator[FaultProxy]:
    with FaultProxy(moto.endpoint) as between:
        yield between


@pytest.fixture
def aws(proxy: FaultProxy) -> Aws:
    """By way of the proxy."""
    return Aws(endpoint=proxy.endpoint)


@pytest.fixture
def event() -> str:
    """The name of an event of this test alone."""
    return f"platform.t{uuid.uuid4().hex[:10]}"


def queue_of(name: str, *, fifo: bool = False) -> EventQueue:
    return EventQueue("local", parse_event(name, "local"), fifo)


@pytest.fixture
def queue(aws: Aws, event: str) -> EventQueue:
    """Its queue, made, with a dead-letter queue."""
    made = queue_of(event)
    ensure(aws, made)
    return made


@pytest.fixture
def publisher(aws: Aws) -> Iterator[Publisher]:
    with Publisher(aws, environment="local", source="/tests") as opened:
        yield opened


def drain(aws: Aws, queue: EventQueue, most: int = 1_000) -> list[Message]:
    """All that can be received now; it stays hidden."""
    found: list[Message] = []
    while len(found) < most and (some := receive(aws, queue, visibility_seconds=600)):
        found += some
    return found


Receive = Callable[..., Receivers]


@pytest.fixture
def run_receivers(aws: Aws) -> Iterator[Receive]:
    """Starts receivers for all handlers: ``run_receivers(broker)``, in threads of the test."""
    with contextlib.ExitStack() as stack:

        def run(
            broker: RedisBroker, *, direct: bool = False, visibility_seconds: int = 60, **options: Any
        ) -> Receivers:
            stopping = threading.Event()
            handlers = catalogue.handlers()
            worker: Mover | Direct
            if direct:
                name = f"test-{uuid.uuid4().hex[:6]}"
                worker = Direct(
                    aws, broker.store, handlers, stopping, name=name, visibility_seconds=visibility_seconds, **options
                )
            else:
                worker = Mover(aws, broker.store, handlers, stopping)
            queues = [catalogue.queue_of(event, "local") for event in handlers]
            receivers = Receivers(aws, worker, queues, wait_seconds=1, visibility_seconds=visibility_seconds, most=3)
            receivers.stopping = stopping

            def stop() -> None:
                receivers.stop()
                assert receivers.join(10), "a receiver has messages in hand"
                if isinstance(worker, Direct):
                    worker.stop(1.0)

            stack.callback(stop)
            receivers.start()
            return receivers

        yield run


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A second kind of SQS server, good for large queues: TEST_MINISTACK, or ``ministack`` on the path."""
    binary = os.environ.get("TEST_MINISTACK") or shutil.which("ministack")
    if not binary:
        pytest.skip("no ministack here: install it in an environment of its own and set TEST_MINISTACK to its path")
    port = free_port()
    log = tmp_path_factory.mktemp("ministack") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [binary],
            env=os.environ | {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "sqs,s3"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=log.parent,
        )
    try:
        eventually(lambda: "Running on" in log.read_text(), 30)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
