"""boto3: the only place that knows it; its clients, and what its errors mean in our words, each with what to do."""

from __future__ import annotations

import os
from typing import Any, Final, NamedTuple

from fourlane.errors import FourlaneError

__all__ = ["DENIED", "AwsAccount", "Failure", "code_of"]

DENIED: Final = ("AccessDenied", "AccessDeniedException", "KMS.AccessDeniedException", "AuthorizationError")
_BAD_KEYS: Final = (
    "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    "InvalidSignatureException", "ExpiredToken", "ExpiredTokenException", "InvalidToken",
)  # fmt: skip
_THROTTLED: Final = (
    "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
    "TooManyRequestsException", "SlowDown", "OverLimit", "KMS.ThrottlingException", "RequestLimitExceeded",
)  # fmt: skip
_PASSING: Final = ("RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete", "InternalError")
_CREDENTIALS_HINT: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this machine a role"
)


class Failure(NamedTuple):
    """What an error means.

    Parameters:
      passing: whether the same call may succeed later.
    """

    text: str
    passing: bool = False


class AwsAccount:
    """An account of AWS in a region, or of what speaks its language elsewhere. Threads may share it.

    Parameters:
      use, extra: what it is for, and what is to be installed for that.
      region: else AWS_REGION, AWS_DEFAULT_REGION, or the profile's.
      endpoint: else AWS_ENDPOINT_URL, or AWS itself.
      keys: access key and secret, in place of what boto3 finds.

    Attributes:
      errors, opening_errors: what a client raises, and what `client` does; `failure` reads them.

    Raises FourlaneError: boto3 is not installed.
    """

    def __init__(
        self, use: str, extra: str, *, region: str = "", endpoint: str = "", keys: tuple[str, str] | None = None
    ) -> None:
        try:
            import boto3
            import botocore.exceptions
        except ImportError:
            raise FourlaneError(f"{use} need boto3; install it with: pip install 'fourlane[{extra}]'") from None
        self._boto3 = boto3
        self._kinds = botocore.exceptions
        self._options: dict[str, Any] = {}
        if endpoint:
            self._options["endpoint_url"] = endpoint
        if keys:
            self._options |= {"aws_access_key_id": keys[0], "aws_secret_access_key": keys[1]}
        self.region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        self.errors: tuple[type[Exception], ...] = (
            botocore.exceptions.ClientError,
            botocore.exceptions.BotoCoreError,
        )
        self.opening_errors = (*self.errors, ValueError)

    def client(self, service: str, **config: Any) -> Any:
        """Raises what is in ``opening_errors``: a ValueError for an endpoint that is none."""
        from botocore.config import Config

        session = self._boto3.Session(region_name=self.region or None)
        client = session.client(service, config=Config(**config), **self._options)
        self.region = client.meta.region_name
        if not self.region:  # a variable that is set, and empty
            raise self._kinds.NoRegionError()
        return client

    def failure(self, error: Exception, about: str) -> Failure:
        """What an error means.

        Parameters:
          about: what it is about, for the text.
        """
        text = " ".join(str(error).split())
        code = code_of(error)
        if code:
            return _refusal(error, code, about, text)
        kinds = self._kinds
        match error:
            case kinds.NoCredentialsError() | kinds.PartialCredentialsError():
                return Failure(f"{about}: no AWS credentials were found; {_CREDENTIALS_HINT}")
            case kinds.NoRegionError():
                return Failure("AWS: no region is set; set AWS_REGION, e.g. to us-east-1")
            case kinds.InvalidRegionError():
                return Failure(f"AWS: {self.region!r} is no region; set AWS_REGION, e.g. to us-east-1")
            case kinds.ProfileNotFound():
                return Failure(f"AWS: {text}; set AWS_PROFILE to one that exists")
            case ValueError() if "endpoint" in text.lower():
                return Failure(f"AWS: {text}; set AWS_ENDPOINT_URL to an address such as http://HOST:PORT")
            case kinds.EndpointConnectionError() | kinds.ConnectTimeoutError():
                hint = f"is AWS_REGION={self.region} right, and the network up?"
                if os.environ.get("AWS_ENDPOINT_URL") or "endpoint_url" in self._options:
                    hint = "does a server run there, and is AWS_ENDPOINT_URL right?"
                return Failure(f"{about}: {text} ({hint})", passing=True)
            case kinds.HTTPClientError():
                return Failure(f"{about}: {text}", passing=True)
        return Failure(f"{about}: {type(error).__name__}: {text}")


def _refusal(error: Exception, code: str, about: str, text: str) -> Failure:
    if code in _BAD_KEYS:
        return Failure(f"{about}: AWS does not take these credentials ({code}); {_CREDENTIALS_HINT}")
    if code in _THROTTLED:
        return Failure(f"{about}: throttled ({code})", passing=True)
    response: Any = getattr(error, "response", {})
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return Failure(f"{about}: {text}", passing=status >= 500 or code in _PASSING)


def code_of(error: Exception) -> str:
    """The code by which AWS names an error; empty for one of another kind."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
