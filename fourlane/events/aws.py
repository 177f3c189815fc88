"""SQS and S3, as event streams call them, and how their errors become ours, each with what to do."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from fourlane.errors import EventsRefused, EventsUnavailable, NoSuchEventQueue
from fourlane.events.names import EventQueue
from fourlane.providers.aws import DENIED, AwsAccount, code_of
from fourlane.telling import tell

__all__ = ["BATCH", "MAX_BYTES", "Aws", "failure_of_entry", "is_configured"]

BATCH: Final = 10
MAX_BYTES: Final = 1_048_576
LONG_POLL_SECONDS: Final = 20
LONGEST_VISIBILITY_SECONDS: Final = 43_200

_READ_SECONDS: Final = LONG_POLL_SECONDS + 15
_PERMISSION_OF: Final = {
    "send_message": "sqs:SendMessage",
    "send_message_batch": "sqs:SendMessage",
    "receive_message": "sqs:ReceiveMessage",
    "delete_message": "sqs:DeleteMessage",
    "delete_message_batch": "sqs:DeleteMessage",
    "change_message_visibility_batch": "sqs:ChangeMessageVisibility",
    "get_queue_url": "sqs:GetQueueUrl",
    "get_queue_attributes": "sqs:GetQueueAttributes",
    "list_queues": "sqs:ListQueues",
    "create_queue": "sqs:CreateQueue",
    "set_queue_attributes": "sqs:SetQueueAttributes",
    "tag_queue": "sqs:TagQueue",
    "list_queue_tags": "sqs:ListQueueTags",
    "start_message_move_task": "sqs:StartMessageMoveTask",
    "put_object": "s3:PutObject",
    "get_object": "s3:GetObject",
}
_OF_CONTENTS: Final = (
    "InvalidMessageContents", "InvalidParameterValue", "InvalidAttributeValue", "MessageTooLong",
)  # fmt: skip
_NO_QUEUE: Final = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
_AWS_VARIABLES: Final = re.compile(
    r"AWS_(ENDPOINT_URL|ENDPOINT_URL_SQS|ACCESS_KEY_ID|PROFILE|DEFAULT_PROFILE|REGION|DEFAULT_REGION|ROLE_ARN"
    r"|WEB_IDENTITY_TOKEN_FILE|CONTAINER_CREDENTIALS_(RELATIVE|FULL)_URI)"
)


def is_configured() -> bool:
    """Whether the environment says anything of AWS."""
    return any(value and _AWS_VARIABLES.fullmatch(name) for name, value in os.environ.items())


class Aws:
    """The event queues of one account and region, and its buckets. May be shared by threads.

    Parameters:
      region: else AWS_REGION, AWS_DEFAULT_REGION, or the profile's.
      endpoint: else AWS_ENDPOINT_URL, or AWS itself.
      keys: access key and secret, in place of what boto3 finds.
      on_missing: makes a queue that does not exist; without it that is an error, as it must be in production.

    Raises:
      FourlaneError: boto3 is not installed.
      EventsUnavailable: there is no region, or the profile is not known.
    """

    def __init__(
        self,
        *,
        region: str = "",
        endpoint: str = "",
        keys: tuple[str, str] | None = None,
        on_missing: Callable[[Aws, EventQueue], None] | None = None,
    ) -> None:
        self._account = AwsAccount("event streams", "sqs", region=region, endpoint=endpoint, keys=keys)
        self._on_missing = on_missing
        self._urls: dict[EventQueue, str] = {}
        self._lock = threading.Lock()
        try:
            self.sqs: Any = self._client("sqs")
        except self._account.opening_errors as error:
            raise self._explained(error, "sqs", None) from None
        self._s3: Any = None

    def _client(self, service: str) -> Any:
        return self._account.client(
            service,
            connect_timeout=5,
            read_timeout=_READ_SECONDS,
            max_pool_connections=64,
            retries={"mode": "standard", "total_max_attempts": 2},  # whoever calls tries again, with longer pauses
        )

    @property
    def region(self) -> str:
        return self._account.region

    @property
    def s3(self) -> Any:
        with self._lock:
            if self._s3 is None:
                self._s3 = self._client("s3")
        return self._s3

    def url(self, queue: EventQueue) -> str:
        """The queue's address. Raises NoSuchEventQueue, EventsUnavailable."""
        url = self._urls.get(queue)
        if url is None:
            try:
                url = self.call("get_queue_url", queue, QueueName=queue.sqs_name)["QueueUrl"]
            except NoSuchEventQueue:
                if self._on_missing is None:
                    raise
                self._on_missing(self, queue)
                url = self.call("get_queue_url", queue, QueueName=queue.sqs_name)["QueueUrl"]
            self._urls[queue] = url
        return url

    def on(self, queue: EventQueue, action: str, **arguments: Any) -> dict[str, Any]:
        """Call SQS about one queue. Raises NoSuchEventQueue, EventsUnavailable."""
        return self.call(action, queue, QueueUrl=self.url(queue), **arguments)

    def call(self, action: str, queue: EventQueue | None = None, **arguments: Any) -> dict[str, Any]:
        """Call SQS. Raises NoSuchEventQueue, EventsUnavailable."""
        tell.called(action)
        try:
            reply: dict[str, Any] = getattr(self.sqs, action)(**arguments)
        except self._account.errors as error:
            explained = self._explained(error, action, queue)
            if isinstance(explained, NoSuchEventQueue) and queue is not None:
                self._urls.pop(queue, None)
            raise explained from error
        return reply

    def put_object(self, bucket: str, key: str, body: bytes) -> None:
        """Raises EventsUnavailable."""
        try:
            self.s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")
        except self._account.errors as error:
            raise self._explained(error, "put_object", None, f"s3://{bucket}/{key}") from error

    def get_object(self, bucket: str, key: str) -> bytes | None:
        """None when there is no such object. Raises EventsUnavailable."""
        try:
            body: bytes = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except self._account.errors as error:
            if code_of(error) in ("NoSuchKey", "404"):
                return None
            raise self._explained(error, "get_object", None, f"s3://{bucket}/{key}") from error
        return body

    # Errors -------------------------------------------------------------------------------------------------

    def _explained(self, error: Exception, action: str, queue: EventQueue | None, where: str = "") -> EventsUnavailable:
        service = "S3" if action.endswith("_object") else "SQS"
        about = f"{service} {where or (queue.sqs_name if queue else '')}".strip()
        code = code_of(error)
        if code in _NO_QUEUE:
            event = f"{queue.event} " if queue else ""
            return NoSuchEventQueue(
                f"{about}: there is no such queue in the region {self.region} of this account; create it with "
                f"`fourlane events provision {event}`, or check AWS_REGION and the credentials".replace(" `,", "`,")
            )
        if code == "NoSuchBucket":
            return EventsRefused(f"{about}: there is no such bucket; check FOURLANE_EVENTS_BUCKET")
        if code in DENIED:
            permission = _PERMISSION_OF.get(action, action)
            return EventsRefused(
                f"{about}: permission {permission} is missing; `fourlane events provision --dry-run` prints the "
                f"policy that producers and consumers need ({' '.join(str(error).split())})"
            )
        failure = self._account.failure(error, about)
        if failure.passing:
            return EventsUnavailable(failure.text, passing=True)
        return EventsRefused(failure.text, contents=code in _OF_CONTENTS)


def failure_of_entry(queue: EventQueue, failed: Mapping[str, Any]) -> EventsUnavailable:
    """What it means that SQS did not take one entry of a batch."""
    code = str(failed.get("Code", ""))
    text = f"SQS {queue.sqs_name}: {code}: {failed.get('Message', '')}"
    if not failed.get("SenderFault"):
        return EventsUnavailable(text, passing=True)
    return EventsRefused(text, contents=code in _OF_CONTENTS)
