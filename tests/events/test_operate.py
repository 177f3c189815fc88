"""Provisioning, and what operators do, through the command."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fourlane import events
from fourlane.cli import main
from fourlane.errors import EventsUnavailable
from fourlane.events import catalogue, messages, operate
from fourlane.events.aws import Aws
from fourlane.events.burials import Burials
from fourlane.events.messages import AGAIN, REASON
from fourlane.events.names import EventQueue
from fourlane.events.provision import policy, provision
from fourlane.events.publisher import Publisher
from fourlane.queues.broker import RedisBroker
from tests.events import fault_proxy as faults
from tests.events.conftest import Receive, drain, queue_of
from tests.events.fault_proxy import FaultProxy
from tests.events.test_consuming import Seen, handle, in_sqs
from tests.servers import eventually
from tests.worker.conftest import RunWorker

Run = Callable[..., Result]


@pytest.fixture
def run(redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("FOURLANE_NAMESPACE", namespace)

    def invoke(*args: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, ["events", *args], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return invoke


def read(result: Result) -> Any:
    return json.loads(result.stdout)


def bury(aws: Aws, publisher: Publisher, queue: EventQueue, number: int, reason: str = "boom", **options: Any) -> None:
    publisher.publish_many(str(queue.event), range(number), **options)
    for message in drain(aws, queue):
        assert Burials(aws).bury(queue, message, reason)


# Provisioning -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "told"), [(5, "(5)"), (99, "(99)"), (100, ""), (1_000, "")])
def test_doctor_warns_where_sqs_gives_events_up_too_soon(aws: Aws, event: str, run: Run, most: int, told: str) -> None:
    queue = queue_of(event)
    run("provision", event)
    kept = aws.on(queue, "get_queue_attributes", AttributeNames=["RedrivePolicy"])["Attributes"]["RedrivePolicy"]
    few = json.dumps({**json.loads(kept), "maxReceiveCount": most})
    aws.on(queue, "set_queue_attributes", Attributes={"RedrivePolicy": few})
    result = CliRunner().invoke(main, ["doctor", "--json"], catch_exceptions=False)
    [found] = [f for f in read(result)["findings"] if f["name"] == "events"]
    assert (f"{queue.sqs_name} {told}" in found["text"]) == bool(told)
    assert found["level"] == ("warn" if told else "ok")
    assert ("fourlane events provision" in found["fix"]) == bool(told)
    run("provision", event)  # what it says to do
    [found] = [f for f in read(CliRunner().invoke(main, ["doctor", "--json"]))["findings"] if f["name"] == "events"]
    assert found["level"] == "ok"


def test_provision_makes_what_an_event_needs(aws: Aws, event: str, run: Run) -> None:
    queue = queue_of(event)
    told = read(run("provision", event, "--dry-run", "--json"))
    assert [q["action"] for q in told["queues"]] == ["create", "create"]
    with pytest.raises(EventsUnavailable):
        aws.url(queue)

    out = run("provision", event).stdout
    assert f"create  {queue.sqs_name}" in out
    assert '"sqs:ReceiveMessage"' in out
    found = aws.on(queue, "get_queue_attributes", AttributeNames=["All"])["Attributes"]
    dead = aws.on(queue.dead_letters, "get_queue_attributes", AttributeNames=["All"])["Attributes"]
    redrive = json.loads(found["RedrivePolicy"])
    assert (redrive["deadLetterTargetArn"], int(redrive["maxReceiveCount"])) == (dead["QueueArn"], 1_000)
    assert (found["MessageRetentionPeriod"], dead["MessageRetentionPeriod"]) == ("345600", "1209600")
    assert found["SqsManagedSseEnabled"] == "true"
    tags = aws.on(queue, "list_queue_tags")["Tags"]
    assert tags == {
        "managed-by": "fourlane", "environment": "local", "stream": "platform-events", "event": event,
        "service": "default",
    }  # fmt: skip

    again = read(run("provision", event, "--json"))
    assert [q["action"] for q in again["queues"]] == ["keep", "keep"]
    aws.on(queue, "set_queue_attributes", Attributes={"VisibilityTimeout": "1"})
    changed = read(run("provision", event, "--json"))["queues"][1]
    assert (changed["action"], changed["attributes"]) == ("update", {"VisibilityTimeout": "60"})


def test_provision_fifo_and_key(aws: Aws, event: str) -> None:
    queue = queue_of(event, fifo=True)
    list(provision(aws, [queue], kms_key="alias/events"))
    found = aws.on(queue, "get_queue_attributes", AttributeNames=["All"])["Attributes"]
    assert (found["FifoQueue"], found["KmsMasterKeyId"]) == ("true", "alias/events")
    assert [change.action for change in provision(aws, [queue], kms_key="alias/events")] == ["keep", "keep"]


def test_the_policy_grants_no_more_than_these_queues(aws: Aws, queue: EventQueue) -> None:
    statements = {s["Sid"]: s for s in policy(aws, [queue], environment="local", bucket="b")["Statement"]}
    arn = f"arn:aws:sqs:us-east-1:123456789012:{queue.sqs_name}"
    assert statements["Producers"]["Resource"] == [arn]
    assert statements["Producers"]["Action"] == ["sqs:GetQueueUrl", "sqs:SendMessage"]
    assert statements["Consumers"]["Resource"] == [arn]
    assert "sqs:SendMessage" not in statements["Consumers"]["Action"]
    assert statements["ConsumersDeadLetters"]["Resource"] == [arn + "__dead"]
    assert statements["ProducersLargeData"]["Resource"] == "arn:aws:s3:::b/local/events/*"


@pytest.mark.parametrize(
    ("key", "resource"),
    [
        ("alias/events", "arn:aws:kms:us-east-1:123456789012:key/*"),
        ("1234-abcd", "arn:aws:kms:us-east-1:123456789012:key/1234-abcd"),
        ("arn:aws:kms:us-east-1:1:key/x", "arn:aws:kms:us-east-1:1:key/x"),
    ],
)
def test_the_policy_of_a_key(aws: Aws, queue: EventQueue, key: str, resource: str) -> None:
    statement = policy(aws, [queue], environment="local", kms_key=key)["Statement"][-1]
    assert (statement["Sid"], statement["Resource"]) == ("EncryptionKey", resource)
    assert ("Condition" in statement) == key.startswith("alias/")


def test_provision_of_declared_events(aws: Aws, event: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "declares_events.py").write_text(f"import fourlane\nfourlane.events.declare('{event}', fifo=True)\n")
    told = read(run("provision", "--module", "declares_events", "--dry-run", "--json"))
    assert [q["sqs"] for q in told["queues"]] == [
        queue_of(event, fifo=True).dead_letters.sqs_name,
        queue_of(event, fifo=True).sqs_name,
    ]
    assert "name events, or a module" in run("provision", code=2).output if not catalogue.declared() else True


def test_in_production_nothing_is_made(aws: Aws, event: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURLANE_ENVIRONMENT", "production")
    wrong = run("publish", event, "1", code=1)
    assert f"fourlane events provision {event}" in wrong.stderr
    with pytest.raises(EventsUnavailable):
        aws.url(queue_of(event)._replace(environment="production"))
    monkeypatch.setenv("FOURLANE_ENVIRONMENT", "local")
    run("publish", event, "1")
    assert len(drain(aws, queue_of(event))) == 1, "but in development it is"


# Looking ------------------------------------------------------------------------------------------------------


def test_list_stats_peek(aws: Aws, publisher: Publisher, queue: EventQueue, event: str, run: Run) -> None:
    publisher.publish_many(event, range(12), tenant="acme")
    row = next(q for q in read(run("list", "--json"))["queues"] if q["sqs"] == queue.sqs_name)
    assert (row["event"], row["stream"], row["waiting"]) == (f"local.events.{event}", "platform-events", 12)
    assert event in run("list", "--category", "platform").stdout
    assert event not in run("list", "--category", "audit").stdout
    assert "use platform, audit" in run("list", "--category", "billing", code=1).stderr
    shown = read(run("peek", event, "--limit", "3", "--json"))["events"]
    assert [e["tenant"] for e in shown] == ["acme"] * 3
    assert read(run("stats", event, "--json"))["queues"][0]["waiting"] == 12, "peeked at, and given back"
    assert "WAITING" in run("stats", event).stdout


def test_publish(aws: Aws, queue: EventQueue, event: str, run: Run) -> None:
    out = run("publish", event, '{"a": 1}', "--tenant", "acme", "--id", "one", "--delay", "0s").stdout
    assert out == "one\n"
    [message] = drain(aws, queue)
    assert json.loads(message.body)["data"] == {"a": 1}
    assert "'DATA': is not JSON" in run("publish", event, "{", code=2).output
    assert "no category" in run("publish", "x.y", "1", code=1).stderr


# Dead letters -------------------------------------------------------------------------------------------------


def test_dead_and_redrive_with_a_filter(
    aws: Aws, publisher: Publisher, queue: EventQueue, event: str, run: Run
) -> None:
    bury(aws, publisher, queue, 3, "the model", tenant="acme")
    bury(aws, publisher, queue, 2, "the disk", tenant="other")
    dead = read(run("dead", event, "--json"))["events"]
    assert sorted((d["tenant"], d["reason"]) for d in dead) == [("acme", "the model")] * 3 + [("other", "the disk")] * 2
    assert "the disk" in run("dead", event, "--reason", "disk").stdout
    assert "no dead letters" in run("dead", event, "--older-than", "1h").stdout

    assert "3 dead letter(s) would go back" in run("redrive", event, "--tenant", "acme", "--dry-run").stdout
    assert in_sqs(aws, queue) == 0
    assert "say --yes" in run("redrive", event, "--tenant", "acme", code=2).output
    assert "sent 3" in run("redrive", event, "--tenant", "acme", "--yes").stdout
    back = drain(aws, queue)
    assert [json.loads(m.body)["tenant"] for m in back] == ["acme"] * 3
    assert [m.reason for m in back] == [""] * 3
    assert len(drain(aws, queue.dead_letters)) == 2, "the others are there, and can be seen"


def test_redrive_at_a_rate(aws: Aws, publisher: Publisher, queue: EventQueue) -> None:
    bury(aws, publisher, queue, 6)
    began = time.monotonic()
    assert operate.move(aws, queue, operate.Filter(), rate_per_second=10) == 6
    assert time.monotonic() - began >= 0.5


def test_redrive_of_a_fifo_queue_keeps_groups(aws: Aws, publisher: Publisher, event: str) -> None:
    events.declare(event, fifo=True)
    queue = queue_of(event, fifo=True)
    list(provision(aws, [queue]))
    publisher.publish(event, 1, key="k")
    [message] = drain(aws, queue)
    Burials(aws).bury(queue, message, "boom")
    assert operate.move(aws, queue, operate.Filter()) == 1
    [back] = drain(aws, queue)
    assert back.group == "k"


def test_redrive_broken_off_loses_nothing(aws: Aws, publisher: Publisher, queue: EventQueue, proxy: FaultProxy) -> None:
    bury(aws, publisher, queue, 5)
    aws.url(queue)
    calls = 0

    def third_fails(call: faults.Call) -> tuple[int, bytes]:
        nonlocal calls
        calls += 1
        return faults.refuse("AccessDenied", 403)(call) if calls >= 3 else call.forward()  # type: ignore[return-value]

    proxy.always("SendMessage", third_fails)
    with pytest.raises(EventsUnavailable, match="permission"):
        operate.move(aws, queue, operate.Filter())
    assert (in_sqs(aws, queue), len(drain(aws, queue.dead_letters))) == (2, 3)


def test_redrive_of_what_was_handled_is_not_handled_again_but_a_replay_is(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, run: Run,
    run_receivers: Receive, run_worker: RunWorker,
) -> None:  # fmt: skip
    seen = Seen()
    handle(event, seen)
    run_receivers(broker)
    run_worker(broker)
    publisher.publish(event, 1, id="one")
    eventually(lambda: len(seen.events) == 1)

    def as_dead_letter() -> None:
        aws.on(
            queue.dead_letters,
            "send_message",
            MessageBody=_body(event),
            MessageAttributes={REASON: {"DataType": "String", "StringValue": "boom"}},
        )

    as_dead_letter()
    assert "sent 1" in run("redrive", event, "--yes").stdout
    eventually(lambda: in_sqs(aws, queue) == 0)
    as_dead_letter()
    assert "replayed 1" in run("replay", event, "one").stdout
    eventually(lambda: len(seen.events) == 2)
    wrong = run("replay", event, "two", code=1)
    assert "no dead letter" in wrong.stderr
    assert "two" in wrong.stderr


def _body(event: str) -> str:
    return json.dumps(
        {
            "specversion": "1.0", "id": "one", "source": "/tests", "type": f"local.events.{event}",
            "time": "2026-01-02T00:00:00Z", "datacontenttype": "application/json", "data": 1,
        }
    )  # fmt: skip


def test_what_dies_again_at_once_does_not_go_round_for_ever(
    aws: Aws, broker: RedisBroker, queue: EventQueue, event: str, run: Run, run_receivers: Receive
) -> None:
    handle(event, Seen())
    run_receivers(broker)
    aws.on(queue, "send_message", MessageBody="not json")
    eventually(lambda: read(run("stats", event, "--json"))["queues"][0]["dead"] == 1)
    for again in ("redrive", "replay"):
        [letter] = eventually(lambda: read(run("dead", event, "--json"))["events"])
        given = ("--yes",) if again == "redrive" else (letter["message_id"],)
        assert " 1 " in run(again, event, *given).stdout


def test_native_redrive_asks_sqs(aws: Aws, publisher: Publisher, queue: EventQueue, proxy: FaultProxy) -> None:
    asked: list[Any] = []

    def answer(call: faults.Call) -> tuple[int, bytes]:
        asked.append(call.json)
        return 200, b'{"TaskHandle": "h"}'

    proxy.always("StartMessageMoveTask", answer)  # no server for tests knows it
    assert operate.start_move(aws, queue, 7) == "h"
    assert asked[0]["MaxNumberOfMessagesPerSecond"] == 7
    assert asked[0]["SourceArn"].endswith(":" + queue.dead_letters.sqs_name)


def test_native_takes_no_filter(queue: EventQueue, event: str, run: Run) -> None:
    assert "takes no filter" in run("redrive", event, "--native", "--tenant", "a", code=2).output


def test_a_body_of_the_full_size_is_buried_without_a_reason(aws: Aws, queue: EventQueue) -> None:
    aws.on(queue, "send_message", MessageBody="x" * 1_048_576)
    [message] = messages.receive(aws, queue, wait_seconds=1)
    assert Burials(aws).bury(queue, message, "too long a body to say why")
    [buried] = drain(aws, queue.dead_letters)
    assert (len(buried.body), buried.reason) == (1_048_576, "")


def test_attributes_of_others_are_kept(aws: Aws, queue: EventQueue) -> None:
    own = {"app": {"DataType": "String", "StringValue": "billing"}, "raw": {"DataType": "Binary", "BinaryValue": b"x"}}
    aws.on(queue, "send_message", MessageBody="x", MessageAttributes=own)
    [message] = messages.receive(aws, queue, wait_seconds=1)
    Burials(aws).bury(queue, message, "a\nb\x00")
    [buried] = drain(aws, queue.dead_letters)
    assert (buried.attribute("app"), buried.reason, buried.attributes["raw"]["BinaryValue"]) == (
        "billing",
        "a b ",
        b"x",
    )
    assert AGAIN not in buried.attributes


# Imports ------------------------------------------------------------------------------------------------------


def test_nothing_needs_boto3_before_events_are_used() -> None:
    code = (
        "import sys; sys.modules['boto3'] = None\n"
        "import fourlane, fourlane.events\n"
        "fourlane.events.declare('platform.x')\n"
        "@fourlane.on_event('platform.x')\n"
        "def on(event): ...\n"
        "assert 'botocore' not in sys.modules\n"
        "from fourlane.errors import FourlaneError\n"
        "try: fourlane.events.publish('platform.x', 1)\n"
        "except FourlaneError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'fourlane[sqs]'" in done.stdout, done.stderr


def test_the_command_without_settings(run: Run, event: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    assert "set AWS_REGION" in run("list", code=1).stderr
    monkeypatch.setenv("FOURLANE_EVENTS_MAX_BYTES", "2000000")
    assert "use a whole number from 1024 to 1048576" in run("list", code=1).stderr
