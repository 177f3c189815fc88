"""What the WSGI and the ASGI endpoint have in common: ``POST /api/webhooks/{stripe,paypal,supabase}``."""

from __future__ import annotations

from typing import Final

from fourlane.webhooks.receive import Answer

__all__ = ["PATH", "headers_of", "misdirected", "sender"]

PATH: Final = "/api/webhooks/"


def misdirected(method: str, path: str) -> Answer | None:
    """The answer to what is no webhook at all."""
    if not path.startswith(PATH):
        return Answer(404, b'{"error": {"code": "RESOURCE_NOT_FOUND", "message": "nothing is here"}}')
    if method != "POST":
        body = b'{"error": {"code": "INVALID_REQUEST", "message": "use POST"}}'
        return Answer(405, body, (("Allow", "POST"),))
    return None


def headers_of(answer: Answer) -> list[tuple[str, str]]:
    """The headers of an answer."""
    return [("Content-Type", "application/json"), ("Content-Length", str(len(answer.body))), *answer.headers]


def sender(peer: str, forwarded: str, proxies: int) -> str:
    """The sender's address; empty when the proxies did not tell it.

    Parameters:
      peer: who opened the connection.
      forwarded: the header ``X-Forwarded-For``.
      proxies: how many proxies of ours add to it; with 0 it is not believed.
    """
    if not proxies:
        return peer
    # Each proxy adds the address that it saw at the end; what stands further left, anybody may have written.
    passed = [part.strip() for part in forwarded.split(",")]
    return passed[-proxies] if len(passed) >= proxies else ""
