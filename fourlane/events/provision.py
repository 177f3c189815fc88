"""Makes the queues of events: each with a dead-letter queue, redrive policy, retention, encryption and tags."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from fourlane.errors import NoSuchEventQueue
from fourlane.events.aws import MAX_BYTES, Aws
from fourlane.events.names import EventQueue

__all__ = ["MAX_RECEIVES", "RETENTION_SECONDS", "Change", "ensure", "policy", "provision"]

MAX_RECEIVES: Final = 1_000
"""The most that SQS takes. Failures and deaths are counted in Redis (tries.py) and end an event long before: this
is the net below."""
RETENTION_SECONDS: Final = 4 * 86_400
DEAD_RETENTION_SECONDS: Final = 14 * 86_400  # SQS's longest; counted from the time when the event was sent
_VISIBILITY_SECONDS: Final = 60
_PRODUCER: Final = ("sqs:GetQueueUrl", "sqs:SendMessage")
_CONSUMER: Final = (
    "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:GetQueueUrl",
    "sqs:ReceiveMessage",
)


class Change(NamedTuple):
    """What was done to a queue, or would be: ``create``, ``update`` or ``keep``, and the attributes it sets."""

    queue: EventQueue
    action: str
    attributes: dict[str, str]


def provision(
    aws: Aws, queues: Iterable[EventQueue], *, dry_run: bool = False, kms_key: str = "", service: str = ""
) -> Iterator[Change]:
    """Make queues and their dead-letter queues as they should be. What is right already stays untouched.

    Parameters:
      dry_run: only tell.
      kms_key: encrypt with this key of KMS, and not with one that SQS manages.
      service: who owns them, for the tags.

    Raises:
      EventsUnavailable: something is refused; what was told before is done.
    """
    for queue in queues:
        dead = queue.dead_letters
        yield _make(aws, dead, _attributes(dead, kms_key), dry_run, service)
        arn = _arn(aws, dead)
        wanted = _attributes(queue, kms_key)
        wanted["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES})
        yield _make(aws, queue, wanted, dry_run, service)


def ensure(aws: Aws, queue: EventQueue) -> None:
    """Make a queue that is missing; for development."""
    for _ in provision(aws, [queue.source]):
        pass


def _attributes(queue: EventQueue, kms_key: str) -> dict[str, str]:
    attributes = {
        "MaximumMessageSize": str(MAX_BYTES),
        "MessageRetentionPeriod": str(DEAD_RETENTION_SECONDS if queue.dead else RETENTION_SECONDS),
        "ReceiveMessageWaitTimeSeconds": "20",
        "VisibilityTimeout": str(_VISIBILITY_SECONDS),
    }
    if kms_key:
        attributes["KmsMasterKeyId"] = kms_key
    else:
        attributes["SqsManagedSseEnabled"] = "true"
    if queue.fifo:
        attributes |= {
            "FifoQueue": "true",
            "DeduplicationScope": "messageGroup",
            "FifoThroughputLimit": "perMessageGroupId",
        }
    return attributes


def _make(aws: Aws, queue: EventQueue, wanted: dict[str, str], dry_run: bool, service: str) -> Change:
    try:
        url = aws.call("get_queue_url", queue, QueueName=queue.sqs_name)["QueueUrl"]
    except NoSuchEventQueue:
        if not dry_run:
            aws.call("create_queue", queue, QueueName=queue.sqs_name, Attributes=wanted, tags=_tags(queue, service))
        return Change(queue, "create", wanted)
    present = aws.call("get_queue_attributes", queue, QueueUrl=url, AttributeNames=["All"])["Attributes"]
    different = {n: v for n, v in wanted.items() if not _same(present.get(n), v) and n != "FifoQueue"}
    if different and not dry_run:
        aws.call("set_queue_attributes", queue, QueueUrl=url, Attributes=different)
        aws.call("tag_queue", queue, QueueUrl=url, Tags=_tags(queue, service))
    return Change(queue, "update" if different else "keep", different)


def _same(present: str | None, wanted: str) -> bool:
    if present is not None and wanted.startswith("{"):
        found: dict[str, Any] = json.loads(present)
        return {k: str(v) for k, v in found.items()} == {k: str(v) for k, v in json.loads(wanted).items()}
    return present == wanted


def _tags(queue: EventQueue, service: str) -> dict[str, str]:
    tags = {
        "managed-by": "fourlane",
        "environment": queue.environment,
        "stream": queue.event.stream,
        "event": str(queue.event),
    }
    return tags | ({"service": service} if service else {})


def _arn(aws: Aws, queue: EventQueue) -> str:
    """Its ARN; a guess for one that only a dry run would have made."""
    try:
        url = aws.call("get_queue_url", queue, QueueName=queue.sqs_name)["QueueUrl"]
    except NoSuchEventQueue:
        return f"arn:aws:sqs:{aws.region}:ACCOUNT:{queue.sqs_name}"
    found: str = aws.call("get_queue_attributes", queue, QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    return found


def policy(
    aws: Aws, queues: Sequence[EventQueue], *, environment: str, bucket: str = "", kms_key: str = ""
) -> dict[str, Any]:
    """The IAM policy that producers and consumers of these queues need, and operators for the dead letters."""
    arns = [_arn(aws, queue) for queue in queues]
    dead = [_arn(aws, queue.dead_letters) for queue in queues]
    statements: list[dict[str, Any]] = [
        {"Sid": "Producers", "Effect": "Allow", "Action": list(_PRODUCER), "Resource": arns},
        {"Sid": "Consumers", "Effect": "Allow", "Action": list(_CONSUMER), "Resource": arns},
        {"Sid": "ConsumersDeadLetters", "Effect": "Allow", "Action": list(_PRODUCER), "Resource": dead},
        {
            "Sid": "Operators",
            "Effect": "Allow",
            "Action": sorted({*_PRODUCER, *_CONSUMER}),
            "Resource": [*arns, *dead],
        },
        {"Sid": "OperatorsList", "Effect": "Allow", "Action": ["sqs:ListQueues"], "Resource": "*"},
    ]
    if bucket:
        where = f"arn:aws:s3:::{bucket}/{environment}/events/*"
        statements += [
            {"Sid": "ProducersLargeData", "Effect": "Allow", "Action": ["s3:PutObject"], "Resource": where},
            {"Sid": "ConsumersLargeData", "Effect": "Allow", "Action": ["s3:GetObject"], "Resource": where},
        ]
    if kms_key:
        statements.append(_key_statement(kms_key, arns[0]))
    return {"Version": "2012-10-17", "Statement": statements}


def _key_statement(kms_key: str, queue_arn: str) -> dict[str, Any]:
    """Producers and consumers need a key of one's own too. An alias can only be named by a condition."""
    partition, region, account = queue_arn.split(":")[1], *queue_arn.split(":")[3:5]
    statement: dict[str, Any] = {
        "Sid": "EncryptionKey",
        "Effect": "Allow",
        "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
    }
    if kms_key.startswith("alias/"):
        condition = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": kms_key}}
        return statement | {"Resource": f"arn:{partition}:kms:{region}:{account}:key/*", "Condition": condition}
    resource = kms_key if kms_key.startswith("arn:") else f"arn:{partition}:kms:{region}:{account}:key/{kms_key}"
    return statement | {"Resource": resource}
