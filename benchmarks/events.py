"""Event streams on SQS: Fourlane beside plain boto3 loops and dramatiq-sqs, on one ministack server.

    python -m benchmarks.events [--events 5000] [--repeat 3]

Each measurement runs in a process of its own and on a queue of its own; the peers take turns, medians are shown.
ministack and dramatiq-sqs come into an environment of their own (.bench/events), for ministack pins botocore.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

PACKAGES = ("ministack", "dramatiq-sqs", "boto3")
DATA = {"user": "ada@example.com", "plan": "team", "seats": 12, "referrer": "https://example.com/pricing?x=1"}
BATCH = 10
IDLE_SECONDS = 60.0
WAIT_SECONDS = 120.0
USD_PER_MILLION_CALLS = 0.40
KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
GOALS = (
    ("publish, Fourlane / dramatiq-sqs", "publish", "fourlane", "dramatiq-sqs", 3.0),
    ("publish, Fourlane / plain batches", "publish", "fourlane", "boto3, batches of 10", 0.85),
    ("consume, Fourlane / dramatiq-sqs", "consume", "fourlane", "dramatiq-sqs", 3.0),
    ("into Redis, Fourlane / plain batches", "consume", "fourlane, into Redis", "boto3, batches of 10", 0.85),
)

Figures = dict[str, float]


class Calls:
    """Counts the calls of SQS that this process makes."""

    def __init__(self) -> None:
        import boto3

        self.counts: Counter[str] = Counter()
        boto3.setup_default_session()
        boto3.DEFAULT_SESSION.events.register("before-call.sqs", self._count)

    def _count(self, model: Any, **_: Any) -> None:
        self.counts[model.name] += 1

    @property
    def all(self) -> int:
        return sum(n for name, n in self.counts.items() if name not in ("CreateQueue", "GetQueueUrl"))


# Publishing: seconds for so many events ------------------------------------------------------------------------


def plain_batches_publish(queue: str, number: int) -> Figures:
    import boto3

    calls, client = Calls(), boto3.client("sqs")
    url = client.create_queue(QueueName=queue)["QueueUrl"]
    body = _body()
    began = time.monotonic()
    for first in range(0, number, BATCH):
        entries = [{"Id": str(i), "MessageBody": body} for i in range(min(BATCH, number - first))]
        client.send_message_batch(QueueUrl=url, Entries=entries)
    return {"per_second": number / (time.monotonic() - began), "calls": calls.all / number}


def plain_single_publish(queue: str, number: int) -> Figures:
    import boto3

    calls, client = Calls(), boto3.client("sqs")
    url = client.create_queue(QueueName=queue)["QueueUrl"]
    body = _body()
    began = time.monotonic()
    for _ in range(number):
        client.send_message(QueueUrl=url, MessageBody=body)
    return {"per_second": number / (time.monotonic() - began), "calls": calls.all / number}


def _body() -> str:
    """As large as what Fourlane sends."""
    envelope = {
        "specversion": "1.0", "id": str(uuid.uuid4()), "source": "/local/bench", "type": "local.events.platform.x",
        "time": "2026-01-01T00:00:00.000Z", "datacontenttype": "application/json", "schemaversion": "1", "data": DATA,
    }  # fmt: skip
    return json.dumps(envelope, separators=(",", ":"))


def fourlane_publish(queue: str, number: int, *, single: bool = False) -> Figures:
    from fourlane.events.aws import Aws
    from fourlane.events.names import EventQueue, parse_event
    from fourlane.events.provision import ensure
    from fourlane.events.publisher import Publisher

    heard = _hear()
    aws = Aws()
    name = f"platform.{queue}"
    ensure(aws, EventQueue("local", parse_event(name, "local")))
    with Publisher(aws, environment="local", source="/local/bench") as publisher:
        publisher.publish(name, DATA)
        before = heard["called"]
        began = time.monotonic()
        if single:
            for _ in range(number):
                publisher.publish(name, DATA)
        else:
            publisher.publish_many(name, (DATA for _ in range(number)))
        return {
            "per_second": number / (time.monotonic() - began),
            "calls": (heard["called"] - before) / number,
        }


def fourlane_single_publish(queue: str, number: int) -> Figures:
    return fourlane_publish(queue, number, single=True)


def _hear() -> Counter[str]:
    from fourlane.events import hooks

    heard: Counter[str] = Counter()

    class Hear(hooks.Hooks):
        def called(self, action: str) -> None:
            heard["called"] += 1
            heard[action] += 1

        def accepted(self, queue: str, jobs: int, known: int) -> None:
            heard["accepted"] += jobs

    hooks.add(Hear())
    return heard


def dramatiq_publish(queue: str, number: int) -> Figures:
    calls = Calls()
    actor = _dramatiq_actor(queue)[1]
    actor.send(DATA)
    before = calls.all
    began = time.monotonic()
    for _ in range(number):
        actor.send(DATA)
    return {"per_second": number / (time.monotonic() - began), "calls": (calls.all - before) / number}


def _dramatiq_actor(queue: str) -> tuple[Any, Any, list[int]]:
    import dramatiq
    from dramatiq_sqs import SQSBroker

    broker = SQSBroker()
    dramatiq.set_broker(broker)
    done: list[int] = []

    def handle(data: Any) -> None:
        done.append(1)

    return broker, dramatiq.actor(handle, queue_name=queue), done


# Consuming: seconds until so many events, which wait already, are handled ---------------------------------------


def plain_batches_consume(queue: str, number: int) -> Figures:
    import boto3

    plain_batches_publish(queue, number)
    calls, client = Calls(), boto3.client("sqs")
    url = client.create_queue(QueueName=queue)["QueueUrl"]
    got, before, began = 0, calls.all, time.monotonic()
    while got < number:
        found = client.receive_message(QueueUrl=url, MaxNumberOfMessages=BATCH, WaitTimeSeconds=20)["Messages"]
        for message in found:
            json.loads(message["Body"])
        client.delete_message_batch(
            QueueUrl=url,
            Entries=[{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(found)],
        )
        got += len(found)
    return {"per_second": number / (time.monotonic() - began), "calls": (calls.all - before) / number}


def fourlane_into_redis(queue: str, number: int) -> Figures:
    """Until Redis has accepted them all, and they are deleted from SQS."""
    import fourlane
    from fourlane.events import catalogue
    from fourlane.events.aws import Aws
    from fourlane.events.mover import Mover
    from fourlane.events.receiver import Receivers
    from fourlane.tasks.task import default_broker

    fourlane_publish(queue, number - 1)  # and the first one
    name = f"platform.{queue}"

    @fourlane.on_event(name)
    def handle(event: Any) -> None: ...

    heard = _hear()
    aws, stopping = Aws(), threading.Event()
    mover = Mover(aws, default_broker().store, catalogue.handlers(), stopping)
    receivers = Receivers(aws, mover, [catalogue.queue_of(event, "local") for event in catalogue.handlers()])
    began = time.monotonic()
    receivers.start()
    _wait(lambda: heard["accepted"] >= number)
    receivers.stop()
    receivers.join(10)
    return {"per_second": number / (time.monotonic() - began), "calls": heard["called"] / number}


def fourlane_consume(queue: str, number: int) -> Figures:
    """The real command, until the last handler ran; from the first handler on."""
    fourlane_publish(queue, number - 1)
    folder = Path(tempfile.mkdtemp(prefix="bench-events-"))
    (folder / "handlers.py").write_text(HANDLERS.format(name=f"platform.{queue}"))
    command = [sys.executable, "-c", "from fourlane.cli import main; main()", "worker", "handlers", "--slots", "8"]
    worker = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        per_second = _rate(folder / "count", number)
    finally:
        worker.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(15)
        shutil.rmtree(folder, ignore_errors=True)
    return {"per_second": per_second}


HANDLERS = """
import os, threading, time
import fourlane

done = []

@fourlane.on_event("{name}")
def handle(event):
    done.append(1)

def count():
    while True:
        time.sleep(0.02)
        if done:  # the receiver's process imports this too
            with open("count.new", "w") as file:
                file.write(str(len(done)))
            os.replace("count.new", "count")

threading.Thread(target=count, daemon=True).start()
"""


def _rate(path: Path, number: int) -> float:
    def count() -> int:
        return int(path.read_text()) if path.exists() else 0

    _wait(lambda: count() > 0)
    first, began = count(), time.monotonic()
    _wait(lambda: count() >= number)
    return (number - first) / (time.monotonic() - began)


def dramatiq_consume(queue: str, number: int) -> Figures:
    """dramatiq's worker with 8 threads, as ours has slots; from the first message on."""
    from dramatiq import Worker

    calls = Calls()
    broker, actor, done = _dramatiq_actor(queue)
    threads = [threading.Thread(target=lambda: [actor.send(DATA) for _ in range(number // 4)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    number = number // 4 * 4
    worker = Worker(broker, worker_threads=8)
    before = calls.all
    worker.start()
    _wait(lambda: bool(done))
    first, began = len(done), time.monotonic()
    _wait(lambda: len(done) >= number)
    seconds = time.monotonic() - began
    time.sleep(1)  # its deletes
    used = calls.all - before
    os.write(1, _line({"per_second": (number - first) / seconds, "calls": used / number}))
    os._exit(0)


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"not done within {WAIT_SECONDS:g} s")
        time.sleep(0.005)


# Idle: calls in an hour for one event's queue -----------------------------------------------------------------


def fourlane_idle(queue: str, number: int) -> Figures:
    import fourlane
    from fourlane.events import catalogue
    from fourlane.events.aws import Aws
    from fourlane.events.mover import Mover
    from fourlane.events.provision import ensure
    from fourlane.events.receiver import Receivers
    from fourlane.tasks.task import default_broker

    @fourlane.on_event(f"platform.{queue}")
    def handle(event: Any) -> None: ...

    aws = Aws()
    queues = [catalogue.queue_of(event, "local") for event in catalogue.handlers()]
    for one in queues:
        ensure(aws, one)
    heard = _hear()
    Receivers(aws, Mover(aws, default_broker().store, catalogue.handlers(), threading.Event()), queues).start()
    return _idle(lambda: heard["receive_message"])


def dramatiq_idle(queue: str, number: int) -> Figures:
    from dramatiq import Worker

    calls = Calls()
    broker, _, _ = _dramatiq_actor(queue)
    Worker(broker, worker_threads=8).start()
    figures = _idle(lambda: calls.counts["ReceiveMessage"])
    os.write(1, _line(figures))
    os._exit(0)


def _idle(count: Callable[[], int]) -> Figures:
    _wait(lambda: count() > 0)
    time.sleep(2)
    before, began = count(), time.monotonic()
    time.sleep(IDLE_SECONDS)
    return {"per_hour": (count() - before) / (time.monotonic() - began) * 3600}


# The run ------------------------------------------------------------------------------------------------------

CASES: dict[str, dict[str, Callable[[str, int], Figures]]] = {
    "publish": {
        "boto3, batches of 10": plain_batches_publish,
        "boto3, one by one": plain_single_publish,
        "fourlane": fourlane_publish,
        "fourlane, one by one": fourlane_single_publish,
        "dramatiq-sqs": dramatiq_publish,
    },
    "consume": {
        "boto3, batches of 10": plain_batches_consume,
        "fourlane, into Redis": fourlane_into_redis,
        "fourlane": fourlane_consume,
        "dramatiq-sqs": dramatiq_consume,
    },
    "idle": {"fourlane": fourlane_idle, "dramatiq-sqs": dramatiq_idle},
}


def main() -> int:
    if sys.argv[1:2] == ["one"]:
        _, _, case, name, queue, number = sys.argv
        os.write(1, _line(CASES[case][name](queue, int(number))))
        os._exit(0)  # idle long polls are left
    parser = argparse.ArgumentParser(prog="python -m benchmarks.events", description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=5_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default=",".join(CASES), help="cases: " + ", ".join(CASES))
    options = parser.parse_args()
    from benchmarks.server import running_redis

    results: dict[str, dict[str, list[Figures]]] = {}
    with running_redis() as redis, _ministack() as (endpoint, python):
        environment = os.environ | KEYS | {"AWS_ENDPOINT_URL": endpoint, "REDIS_URL": redis.url}
        for case in options.only.split(","):
            for _ in range(1 if case == "idle" else options.repeat):
                for name in CASES[case]:
                    redis.flush()
                    found = _one(case, name, options.events, environment, python)
                    print(f"  {case:<8} {name:<22} {_shown(found)}", flush=True)
                    if "failed" not in found:
                        results.setdefault(case, {}).setdefault(name, []).append(found)
    _report(results)
    path = Path(__file__).parent / "results" / "events.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1))
    return 0


def _one(case: str, name: str, number: int, environment: dict[str, str], python: str) -> dict[str, Any]:
    queue = "b" + uuid.uuid4().hex[:10]
    interpreter = python if name.startswith("dramatiq") else sys.executable
    root = str(Path(__file__).parents[1])
    process = subprocess.run(
        [interpreter, __file__, "one", case, name, queue, str(number)],
        env=environment | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=2 * WAIT_SECONDS + IDLE_SECONDS,
        check=False,
    )
    for line in process.stdout.splitlines():
        if line.startswith("RESULT "):
            figures: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
            return figures
    return {"failed": (process.stderr.strip().splitlines() or ["no result"])[-1]}


def _line(figures: Figures) -> bytes:
    return f"RESULT {json.dumps(figures)}\n".encode()


def _shown(found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"failed: {found['failed']}"
    words = {"per_second": "{:,.0f} events/s", "calls": "{:.2f} calls/event", "per_hour": "{:,.0f} calls/idle hour"}
    return ", ".join(words[name].format(value) for name, value in found.items())


def _report(results: dict[str, dict[str, list[Figures]]]) -> None:
    def middle(case: str, name: str, figure: str) -> float | None:
        values = [run[figure] for run in results.get(case, {}).get(name, []) if figure in run]
        return median(values) if values else None

    print(f"\n{'case':<9}{'who':<24}{'events/s':>10}{'calls/event':>13}{'USD per million':>17}")
    for case in ("publish", "consume"):
        for name in results.get(case, {}):
            rate, calls = middle(case, name, "per_second"), middle(case, name, "calls")
            cost = "-" if calls is None else f"{calls * USD_PER_MILLION_CALLS:.2f}"
            print(f"{case:<9}{name:<24}{rate:>10,.0f}{'-' if calls is None else format(calls, '.2f'):>13}{cost:>17}")
    for name in results.get("idle", {}):
        hour = middle("idle", name, "per_hour") or 0.0
        usd = hour * 730 * USD_PER_MILLION_CALLS / 1e6
        print(f"{'idle':<9}{name:<24}{hour:>10,.0f} calls an hour and queue, {usd:.3f} USD a month")
    print()
    for what, case, ours, theirs, limit in GOALS:
        pairs = zip(results.get(case, {}).get(ours, []), results.get(case, {}).get(theirs, []), strict=False)
        ratios = [mine["per_second"] / other["per_second"] for mine, other in pairs]
        if ratios:
            # Of one repetition each, for the machine's mood changes by the minute.
            verdict = "reached" if median(ratios) >= limit else "MISSED"
            shown = ", ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
            print(f"{what:<40}{median(ratios):>6.2f} of {shown}; goal {limit:g}: {verdict}")


@contextlib.contextmanager
def _ministack() -> Iterator[tuple[str, str]]:
    """The server's address, and the interpreter of its environment."""
    import socket

    folder = Path(os.environ.get("BENCH_EVENTS_VENV", ".bench/events"))
    if not (folder / "bin" / "ministack").exists():
        print(f"installing {', '.join(PACKAGES)} into {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", *PACKAGES], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SERVICES": "sqs"}
    process = subprocess.Popen(
        [folder / "bin" / "ministack"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", str(folder / "bin" / "python")
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    sys.exit(main())
