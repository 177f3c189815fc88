"""SQS and S3 through boto3: the only place that knows it, and how its errors become ours, each with what to do."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from typing import Any, Final

from fourlane.errors import EventsUnavailable, FourlaneError, NoSuchEventQueue
from fourlane.events.names import EventQueue
from fourlane.telling import tell

__all__ = ["BATCH", "MAX_BYTES", "Aws", "is_configured"]

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
_NO_QUEUE: Final = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
_DENIED: Final = ("AccessDenied", "AccessDeniedException", "KMS.AccessDeniedException", "AuthorizationError")
_BAD_KEYS: Final = (
    "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    "InvalidSignatureException", "ExpiredToken", "ExpiredTokenException", "InvalidToken",
)  # fmt: skip
_THROTTLED: Final = (
    "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
    "TooManyRequestsException", "SlowDown", "OverLimit", "KMS.ThrottlingException", "RequestLimitExceeded",
)  # fmt: skip
_CREDENTIALS_HINT: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this machine a role"
)
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
        try:
            import boto3
            import botocore.exceptions as failures
            from botocore.config import Config
        except ImportError:
            raise FourlaneError("event streams need boto3; install it with: pip install 'fourlane[sqs]'") from None
        self._failures = failures
        self._on_missing = on_missing
        self._urls: dict[EventQueue, str] = {}
        self._lock = threading.Lock()
        self._config = Config(
            connect_timeout=5,
            read_timeout=_READ_SECONDS,
            max_pool_connections=64,
            retries={"mode": "standard", "total_max_attempts": 2},  # whoever calls tries again, with longer pauses
        )
        self._options: dict[str, Any] = {"config": self._config}
        if endpoint:
            self._options["endpoint_url"] = endpoint
        if keys:
            self._options |= {"aws_access_key_id": keys[0], "aws_secret_access_key": keys[1]}
        self.region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        try:
            self._session = boto3.Session(region_name=self.region or None)
            self.sqs: Any = self._session.client("sqs", **self._options)
        except (failures.BotoCoreError, ValueError) as error:
            raise self._explained(error, "sqs", None) from None
        self.region = self.sqs.meta.region_name
        if not self.region:  # a variable that is set, and empty
            raise self._explained(failures.NoRegionError(), "sqs", None)
        self._s3: Any = None

    @property
    def s3(self) -> Any:
        with self._lock:
            if self._s3 is None:
                self._s3 = self._session.client("s3", **self._options)
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
        except (self._failures.ClientError, self._failures.BotoCoreError) as error:
            explained = self._explained(error, action, queue)
            if isinstance(explained, NoSuchEventQueue) and queue is not None:
                self._urls.pop(queue, None)
            raise explained from error
        return reply

    def put_object(self, bucket: str, key: str, body: bytes) -> None:
        """Raises EventsUnavailable."""
        try:
            self.s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")
        except (self._failures.ClientError, self._failures.BotoCoreError) as error:
            raise self._explained(error, "put_object", None, f"s3://{bucket}/{key}") from error

    def get_object(self, bucket: str, key: str) -> bytes | None:
        """None when there is no such object. Raises EventsUnavailable."""
        try:
            body: bytes = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except (self._failures.ClientError, self._failures.BotoCoreError) as error:
            if _code(error) in ("NoSuchKey", "404"):
                return None
            raise self._explained(error, "get_object", None, f"s3://{bucket}/{key}") from error
        return body

    # Errors -------------------------------------------------------------------------------------------------

    def _explained(self, error: Exception, action: str, queue: EventQueue | None, where: str = "") -> EventsUnavailable:
        service = "S3" if action.endswith("_object") else "SQS"
        where = where or (queue.sqs_name if queue else "")
        about = f"{service} {where}".strip()
        code = _code(error)
        text = " ".join(str(error).split())
        if code:
            return self._refusal(error, code, about, action, queue, text)
        failures = self._failures
        match error:
            case failures.NoCredentialsError() | failures.PartialCredentialsError():
                return EventsUnavailable(f"{about}: no AWS credentials were found; {_CREDENTIALS_HINT}")
            case failures.NoRegionError():
                return EventsUnavailable("AWS: no region is set; set AWS_REGION, e.g. to us-east-1")
            case failures.InvalidRegionError():
                return EventsUnavailable(f"AWS: {self.region!r} is no region; set AWS_REGION, e.g. to us-east-1")
            case failures.ProfileNotFound():
                return EventsUnavailable(f"AWS: {text}; set AWS_PROFILE to one that exists")
            case ValueError() if "endpoint" in text.lower():
                return EventsUnavailable(f"AWS: {text}; set AWS_ENDPOINT_URL to an address such as http://HOST:PORT")
            case failures.EndpointConnectionError() | failures.ConnectTimeoutError():
                hint = f"is AWS_REGION={self.region} right, and the network up?"
                if os.environ.get("AWS_ENDPOINT_URL") or "endpoint_url" in self._options:
                    hint = "does a server run there, and is AWS_ENDPOINT_URL right?"
                return EventsUnavailable(f"{about}: {text} ({hint})", passing=True)
            case failures.HTTPClientError():
                return EventsUnavailable(f"{about}: {text}", passing=True)
        return EventsUnavailable(f"{about}: {type(error).__name__}: {text}")

    def _refusal(
        self, error: Exception, code: str, about: str, action: str, queue: EventQueue | None, text: str
    ) -> EventsUnavailable:
        if code in _NO_QUEUE:
            event = f"{queue.event} " if queue else ""
            return NoSuchEventQueue(
                f"{about}: there is no such queue in the region {self.region} of this account; create it with "
                f"`fourlane events provision {event}`, or check AWS_REGION and the credentials".replace(" `,", "`,")
            )
        if code == "NoSuchBucket":
            return EventsUnavailable(f"{about}: there is no such bucket; check FOURLANE_EVENTS_BUCKET")
        if code in _DENIED:
            permission = _PERMISSION_OF.get(action, action)
            return EventsUnavailable(
                f"{about}: permission {permission} is missing; `fourlane events provision --dry-run` prints the "
                f"policy that producers and consumers need ({text})"
            )
        if code in _BAD_KEYS:
            return EventsUnavailable(f"{about}: AWS does not take these credentials ({code}); {_CREDENTIALS_HINT}")
        if code in _THROTTLED:
            return EventsUnavailable(f"{about}: throttled ({code})", passing=True)
        response: Any = getattr(error, "response", {})
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return EventsUnavailable(f"{about}: {text}", passing=status >= 500)


def _code(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
