"""What ``fourlane doctor`` says of event queues: does SQS give up an event before its handlers do?"""

from __future__ import annotations

import json

from fourlane.errors import EventsUnavailable
from fourlane.events.aws import Aws
from fourlane.events.names import EventQueue
from fourlane.events.operate import queues
from fourlane.events.provision import MAX_RECEIVES
from fourlane.queues.doctor import Finding, Level

__all__ = ["FEW_RECEIVES", "examine_queues"]

FEW_RECEIVES = 100
"""A deploy, a pause, a look and a killed receiver are a receive each: with fewer than so many a good event may go."""
_NAME = "events"
_NAMED = 3


def examine_queues(aws: Aws, environment: str) -> list[Finding]:
    """Look at the redrive policies of an environment's queues. Raises nothing: a finding tells what cannot be asked."""
    try:
        found = queues(aws, environment)
        few = {queue: most for queue in found if 0 < (most := _most_receives(aws, queue)) < FEW_RECEIVES}
    except EventsUnavailable as error:
        return [Finding(Level.WARN, _NAME, f"the queues on SQS cannot be looked at: {error}")]
    if not few:
        return [Finding(Level.OK, _NAME, f"{len(found)} queue(s) on SQS")]
    some = ", ".join(f"{queue.sqs_name} ({most})" for queue, most in list(few.items())[:_NAMED])
    more = f" and {len(few) - _NAMED} more" if len(few) > _NAMED else ""
    return [
        Finding(
            Level.WARN,
            _NAME,
            f"SQS makes events dead letters after few receives (maxReceiveCount): {some}{more}; deploys and killed "
            "receivers count too, so good events may go",
            f"fourlane events provision, or set maxReceiveCount of their redrive policies to {MAX_RECEIVES:,}: "
            "failures are counted apart, and end an event long before",
        )
    ]


def _most_receives(aws: Aws, queue: EventQueue) -> int:
    """0 when SQS never gives an event up."""
    url = aws.call("get_queue_url", queue, QueueName=queue.sqs_name)["QueueUrl"]
    reply = aws.call("get_queue_attributes", queue, QueueUrl=url, AttributeNames=["RedrivePolicy"])
    policy = json.loads(reply.get("Attributes", {}).get("RedrivePolicy", "{}"))
    return int(policy.get("maxReceiveCount", 0))
