"""One HTTP call to a provider, and what its answer means."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from fourlane.errors import RateLimited
from fourlane.providers import http
from fourlane.providers.messages.message import Impossible, NotTaken, Unclear

__all__ = [
    "KEEP_BODY_BYTES",
    "REASON_CHARACTERS",
    "call",
    "check",
    "json_of",
    "post",
    "post_json",
    "reason_of",
    "text_in",
]

log = logging.getLogger("fourlane.notifications")

KEEP_BODY_BYTES: Final = 65_536
REASON_CHARACTERS: Final = 200
TOO_MUCH: Final = (408, 425, 429)
_AGAIN_SECONDS: Final = (0.1, 0.2, 0.4)
_NEVER_ARRIVED: Final = ("DNS", "connection refused", "unreachable", "TLS")


def post_json(
    url: str, content: Any, *, headers: Mapping[str, str], timeout_seconds: float, repeatable: bool = False
) -> http.Response:
    """Call as `call` does."""
    return call(
        lambda seconds: post(url, content, headers=headers, timeout_seconds=seconds),
        timeout_seconds,
        repeatable=repeatable,
    )


def post(url: str, content: Any, *, headers: Mapping[str, str], timeout_seconds: float) -> http.Response:
    """One request with JSON."""
    return http.post(
        url,
        body=json.dumps(content).encode(),
        headers={"content-type": "application/json"} | dict(headers),
        timeout_seconds=timeout_seconds,
        allow_private=True,  # the addresses are those of settings: they may be on this machine
        max_redirects=0,
        keep_body_bytes=KEEP_BODY_BYTES,
    )


def call(
    request: Callable[[float], http.Response], timeout_seconds: float, *, repeatable: bool, private_by: str = ""
) -> http.Response:
    """Call, and again after 100, 200 and 400 ms where that can help and can do no harm, all within the time.

    Parameters:
      repeatable: whether a second call with the same content does no harm when the first one arrived.
      private_by: the setting that allows private addresses.
    """
    deadline = time.monotonic() + timeout_seconds
    unclear = ""  # why it is not known whether an earlier request did what it was to do
    for pause in (*_AGAIN_SECONDS, None):
        arrived, error, answer = True, "", None
        try:
            answer = request(deadline - time.monotonic())
        except http.TargetRefused as refused:
            raise Impossible(http.explained(refused, private_by)) from None
        except RateLimited:
            if unclear:
                raise Unclear(unclear, down=False) from None
            raise
        except http.TransportError as failed:
            arrived, error = failed.reason not in _NEVER_ARRIVED, str(failed)
            if failed.private:  # in the log alone: who named the host may read the error
                log.warning("refused: %s", http.explained(failed, private_by))
        if answer is not None and answer.status in TOO_MUCH and unclear:
            raise Unclear(unclear, down=False)
        if answer is not None and answer.status < 500:
            return answer
        if arrived:
            unclear = error if answer is None else reason_of(answer)
        may_repeat = repeatable or not arrived
        if pause is not None and may_repeat and time.monotonic() + pause < deadline:
            time.sleep(pause)
            continue
        if answer is not None:
            return answer
        if arrived:
            raise Unclear(error)
        raise NotTaken(error)
    raise AssertionError("the last round returns or raises")


def check(answer: http.Response, provider: str) -> None:
    if answer.status < 300:
        return
    if answer.status == 401 or (answer.status == 403 and b"key" in answer.body.lower()):
        raise Impossible(f"{provider} refuses our key: {reason_of(answer)}")
    if answer.status == 403:
        raise Impossible(f"{provider} refuses it: {reason_of(answer)}")
    if answer.status in TOO_MUCH:
        raise NotTaken(reason_of(answer), answer)
    if answer.status >= 500:
        raise Unclear(reason_of(answer))
    raise Impossible(reason_of(answer))


def reason_of(answer: http.Response) -> str:
    try:
        status = f"HTTP {answer.status} {HTTPStatus(answer.status).phrase}"
    except ValueError:
        status = f"HTTP {answer.status}"
    content = json_of(answer)
    code, text = content.get("code") or content.get("name"), content.get("message")
    said = f"{code}: {text}" if code and text else text or " ".join(answer.body.decode("utf-8", "replace").split())
    return f"{status}: {said}"[:REASON_CHARACTERS] if said else status


def json_of(answer: http.Response) -> dict[str, Any]:
    try:
        content = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def text_in(answer: http.Response, name: str) -> str:
    value = json_of(answer).get(name)
    if not isinstance(value, str) or not value:
        raise Unclear(f"HTTP {answer.status}, but its body cannot be read")
    return value
