"""What an error of a call says of its provider, of whichever SDK or HTTP library it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Final

from fourlane.errors import FourlaneError
from fourlane.providers.ai.answer import CutStream, FailedAnswer
from fourlane.providers.signals import Signal, signal_of_error_type, signal_of_status

__all__ = [
    "EmptyAccount",
    "GoogleRefused",
    "Unsendable",
    "is_fault_of_ours",
    "read_error",
    "status_of",
    "told",
    "was_taken",
]


class Unsendable(FourlaneError):
    """The request cannot be sent as it is: nobody was called. Its words are ours: the library's may hold the key."""


class EmptyAccount(FourlaneError):
    """The account at the provider has no money or credits left; waiting does not fill it."""


class GoogleRefused(FourlaneError):
    """Google answered with an error instead of an answer.

    Attributes:
      status_code, response: of HTTP. details: its body.
    """

    def __init__(self, response: Any, body: bytes) -> None:
        try:
            self.details = json.loads(body)
        except ValueError:
            self.details = {}
        self.status_code: int = response.status_code
        self.response = response
        listed = self.details[0] if isinstance(self.details, list) and self.details else self.details
        said = listed.get("error") if isinstance(listed, dict) else None
        words = (
            f"{said.get('status')}: {said.get('message')}"
            if isinstance(said, dict)
            else body[:200].decode("utf-8", "replace")
        )
        super().__init__(f"{self.status_code} {words}")


def told(error: BaseException, provider: str) -> BaseException:
    """The error to raise for one of an SDK: itself, unless its words hold a secret or do not say what to do."""
    if any(_is_malformed(each) for each in _causes(error)):
        words = f"the request to {provider} cannot be sent: one of its headers is malformed"
        return Unsendable(f"{words}; is there a line feed or a letter that is not ASCII in the key?")
    if _is_empty(error):
        return EmptyAccount(f"the account at {provider} is empty or its quota is spent; add credits there: {error}")
    return error


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an SDK's error carries."""
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    return status if isinstance(status, int) else None


def read_error(error: BaseException) -> Signal:
    """What an error of a call says of its provider."""
    if isinstance(error, FailedAnswer):
        return signal_of_error_type(error.word) or Signal("down", again=True)
    status = status_of(error)
    response = getattr(error, "response", None)
    if status is not None and status >= 400:
        if _is_empty(error):
            return Signal("neutral")
        return signal_of_status(status, _google_wait(error) or getattr(response, "headers", None) or {})
    if any(_is_malformed(each) for each in _causes(error)):
        return Signal("neutral")
    if isinstance(error, (CutStream, TimeoutError, OSError, json.JSONDecodeError)) or _is_of_transport(error):
        return Signal("down", again=True)
    return Signal("neutral")


def is_fault_of_ours(error: BaseException) -> bool:
    """The provider said that this request can never succeed: wrong key, wrong model, too long, malformed."""
    if isinstance(error, (EmptyAccount, Unsendable)):
        return True
    if isinstance(error, FailedAnswer):
        return read_error(error) == Signal("neutral")
    status = status_of(error)
    return status is not None and 400 <= status < 500 and read_error(error).verdict == "neutral"


def was_taken(error: BaseException) -> bool:
    """Whether a provider may have begun to work, and counts it, when the call ended so before a piece had come.

    Not where it answered with an error, or could not be reached at all.
    """
    if isinstance(error, (CutStream, TimeoutError, asyncio.CancelledError)):
        return True
    if status_of(error) is not None:
        return False
    chain = list(_causes(error))
    if any(base.__name__ in _OF_CONNECTING for one in chain for base in type(one).__mro__):
        return False
    return any(isinstance(one, (OSError, json.JSONDecodeError)) or _is_of_transport(one) for one in chain)


_EMPTY: Final = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error")


def _is_empty(error: BaseException) -> bool:
    if isinstance(error, FailedAnswer):
        return error.word in ("402", *_EMPTY)
    status = status_of(error)
    if status == 402:
        return True
    # OpenAI says it by 429, Anthropic by 400 and in words alone.
    words = f"{error} {getattr(error, 'code', '')}"
    return status in (400, 403, 429) and (any(word in words for word in _EMPTY) or "credit balance is too low" in words)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _is_malformed(error: BaseException) -> bool:
    """What cannot be written as HTTP."""
    return isinstance(error, UnicodeEncodeError) or type(error).__name__ == "LocalProtocolError"


def _google_wait(error: BaseException) -> dict[str, str]:
    """Google says in the body, not in a header, when to come again: as one; empty where nothing is said."""
    details = getattr(error, "details", None)
    told = details.get("error", details) if isinstance(details, dict) else {}
    for detail in (told.get("details") or ()) if isinstance(told, dict) else ():
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            return {"retry-after": detail["retryDelay"].removesuffix("s")}
    return {}


_OF_CONNECTING: Final = frozenset(
    {"ClientConnectorError", "ConnectError", "ConnectTimeout", "ConnectionRefusedError", "PoolTimeout"}
)
_OF_TRANSPORT: Final = frozenset(
    {
        "APIConnectionError",
        "APIResponseValidationError",
        "ClientConnectionError",
        "ClientPayloadError",
        "TransportError",
        "UnknownApiResponseError",
    }
)


def _is_of_transport(error: BaseException) -> bool:
    """No connection, a broken one, too slow, or an answer that cannot be read."""
    kind = type(error)
    if kind.__name__ == "APIError" and kind.__module__.startswith(("openai", "anthropic")):
        return True
    return any(base.__name__ in _OF_TRANSPORT for base in kind.__mro__)
