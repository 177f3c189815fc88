"""What the WSGI and the ASGI endpoint have in common: ``POST /api/webhooks/{stripe,paypal,supabase}``.

1. What is no webhook is answered (`misdirected`), and so is what the gates turn away (`Receiver.admit`).
2. The body is read: up to the limit of its size, and for `BODY_SECONDS` in all.
3. `Receiver.take` does the rest.
"""

from __future__ import annotations

import sys
from typing import Final

from fourlane.webhooks.receive import Answer

__all__ = ["BODY_SECONDS", "PATH", "headers_of", "length_of", "misdirected"]

PATH: Final = "/api/webhooks/"
BODY_SECONDS: Final = 10.0
"""For a whole body: the largest needs 50 KB/s."""


def misdirected(method: str, path: str, length: str) -> Answer | None:
    """The answer to what is no webhook at all.

    Parameters:
      length: the header ``Content-Length``; empty when there is none.
    """
    if not path.startswith(PATH):
        return _wrong(404, "RESOURCE_NOT_FOUND", "nothing is here")
    if method != "POST":
        return _wrong(405, "INVALID_REQUEST", "use POST", ("Allow", "POST"))
    if length and not (length.isascii() and length.isdecimal()):
        return _wrong(400, "INVALID_REQUEST", "its Content-Length is no number")
    return None


def length_of(length: str) -> int | None:
    """The body's, as far as the header says; it is a number (`misdirected`)."""
    if not length:
        return None
    return int(length) if len(length) < 19 else sys.maxsize


def headers_of(answer: Answer) -> list[tuple[str, str]]:
    """The headers of an answer."""
    return [("Content-Type", "application/json"), ("Content-Length", str(len(answer.body))), *answer.headers]


def _wrong(status: int, code: str, message: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, f'{{"error": {{"code": "{code}", "message": "{message}"}}}}'.encode(), headers)
