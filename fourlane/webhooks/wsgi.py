"""The receiving endpoint, for any WSGI server: ``POST /api/webhooks/{stripe,paypal,supabase}``.

gunicorn 'fourlane.webhooks.wsgi:from_settings()'
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fourlane.webhooks.receive import Answer, Receiver

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["application", "from_settings"]

_PATH: Final = "/api/webhooks/"
WSGI = Callable[["WSGIEnvironment", "StartResponse"], Iterable[bytes]]


def application(receiver: Receiver, *, proxies: int = 0) -> WSGI:
    """The endpoint.

    Parameters:
      proxies: how many proxies of ours add to ``X-Forwarded-For``; with 0 the header is not believed.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        reply = _reply(receiver, environ, proxies)
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(reply.body)))]
        start_response(f"{reply.status} {HTTPStatus(reply.status).phrase}", headers)
        return [reply.body]

    return answer


def from_settings() -> WSGI:
    """The endpoint as the settings describe it. Raises SettingsError."""
    from fourlane import app
    from fourlane.config import load_settings

    settings = load_settings()
    return application(app.webhook_receiver(settings), proxies=settings.webhook_proxies)


def _reply(receiver: Receiver, environ: WSGIEnvironment, proxies: int) -> Answer:
    path = environ.get("PATH_INFO", "")
    if not path.startswith(_PATH):
        return Answer(404, b'{"error": {"code": "RESOURCE_NOT_FOUND", "message": "nothing is here"}}')
    if environ["REQUEST_METHOD"] != "POST":
        return Answer(405, b'{"error": {"code": "INVALID_REQUEST", "message": "use POST"}}')
    body = _body(environ, receiver.max_bytes)
    return receiver.receive(path.removeprefix(_PATH), _headers(environ), body, address=_address(environ, proxies))


def _body(environ: WSGIEnvironment, most: int) -> bytes:
    """The body; of one that is too large, a byte too many."""
    stream: Any = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):  # the server knows where a chunked body ends
        return bytes(stream.read(most + 1))
    try:
        length = min(int(environ.get("CONTENT_LENGTH") or 0), most + 1)
    except ValueError:
        length = 0
    return bytes(stream.read(max(0, length)))


def _headers(environ: WSGIEnvironment) -> dict[str, str]:
    return {
        name[5:].replace("_", "-").lower(): str(value) for name, value in environ.items() if name.startswith("HTTP_")
    }


def _address(environ: WSGIEnvironment, proxies: int) -> str:
    if not proxies:
        return str(environ.get("REMOTE_ADDR", ""))
    # Each proxy adds the address that it saw at the end; what stands further left, anybody may have written.
    passed = [part.strip() for part in environ.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    return str(passed[-proxies]) if len(passed) >= proxies else ""
