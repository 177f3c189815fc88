"""The receiving endpoint, for any WSGI server: ``POST /api/webhooks/{stripe,paypal,supabase}``.

gunicorn 'fourlane.webhooks.wsgi:from_settings()'
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fourlane.root import root
from fourlane.webhooks.endpoint import PATH, headers_of, misdirected, sender
from fourlane.webhooks.receive import Answer, Receiver
from fourlane.webhooks.setup import receiver

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["application", "from_settings"]

WSGI = Callable[["WSGIEnvironment", "StartResponse"], Iterable[bytes]]


def application(receiver: Receiver, *, proxies: int = 0) -> WSGI:
    """The endpoint.

    Parameters:
      proxies: how many proxies of ours add to ``X-Forwarded-For``; with 0 the header is not believed.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        reply = _reply(receiver, environ, proxies)
        start_response(f"{reply.status} {HTTPStatus(reply.status).phrase}", headers_of(reply))
        return [reply.body]

    return answer


def from_settings() -> WSGI:
    """The endpoint as the settings describe it. Raises SettingsError."""
    return application(root().part(receiver), proxies=root().settings.webhook_proxies)


def _reply(receiver: Receiver, environ: WSGIEnvironment, proxies: int) -> Answer:
    path = environ.get("PATH_INFO", "")
    answer = misdirected(environ["REQUEST_METHOD"], path)
    if answer is not None:
        return answer
    body = _body(environ, receiver.max_bytes)
    address = sender(str(environ.get("REMOTE_ADDR", "")), str(environ.get("HTTP_X_FORWARDED_FOR", "")), proxies)
    return receiver.receive(path.removeprefix(PATH), _headers(environ), body, address=address)


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
