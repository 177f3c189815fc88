"""What an error of a call says of its provider, of whichever SDK or HTTP library it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Final

from fourlane.providers.ai.answer import CutStream
from fourlane.providers.signals import Signal, signal_of_status

__all__ = ["is_fault_of_ours", "read_error", "status_of", "was_taken"]


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an SDK's error carries."""
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    return status if isinstance(status, int) else None


def read_error(error: BaseException) -> Signal:
    """What an error of a call says of its provider."""
    status = status_of(error)
    response = getattr(error, "response", None)
    if status is not None and status >= 400:
        # The account is empty: waiting a minute does not fill it.
        if status == 429 and "insufficient_quota" in str(error):
            return Signal("neutral")
        return signal_of_status(status, _google_wait(error) or getattr(response, "headers", None) or {})
    if isinstance(error, (CutStream, TimeoutError, OSError, json.JSONDecodeError)) or _is_of_transport(error):
        return Signal("down", again=True)
    return Signal("neutral")


def is_fault_of_ours(error: BaseException) -> bool:
    """The provider said that this request can never succeed: wrong key, wrong model, too long, malformed."""
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


def _causes(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__


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
