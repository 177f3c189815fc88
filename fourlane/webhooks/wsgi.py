"""The receiving endpoint, for any WSGI server: ``POST /api/webhooks/{stripe,paypal,supabase}``.

gunicorn --threads 16 'fourlane.webhooks.wsgi:from_settings()'
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from fourlane.root import root
from fourlane.webhooks.address import sender
from fourlane.webhooks.endpoint import BODY_SECONDS, PATH, headers_of, length_of, misdirected
from fourlane.webhooks.receive import Answer, Receiver, answer_of
from fourlane.webhooks.setup import receiver
from fourlane.webhooks.wsgi_body import Broken, leave, read

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["application", "from_settings"]

_log = logging.getLogger("fourlane.webhooks")
_ONE_AT_A_TIME: Final = (
    "this server takes one request at a time in a process: a few slow senders keep all others out. Give it threads "
    "(gunicorn --threads 16), or put a proxy before it that buffers bodies"
)

WSGI = Callable[["WSGIEnvironment", "StartResponse"], Iterable[bytes]]


def application(receiver: Receiver, *, proxies: int = 0) -> WSGI:
    """The endpoint.

    Parameters:
      proxies: how many proxies of ours add to ``X-Forwarded-For``; with 0 the header is not believed.
    """

    warned = False

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        nonlocal warned
        if not warned and not environ.get("wsgi.multithread", True):
            warned = True
            _log.warning(_ONE_AT_A_TIME)
        reply = _reply(receiver, environ, proxies)
        start_response(f"{reply.status} {HTTPStatus(reply.status).phrase}", headers_of(reply))
        return [reply.body]

    return answer


def from_settings() -> WSGI:
    """The endpoint as the settings describe it. Raises SettingsError."""
    return application(root().part(receiver), proxies=root().settings.webhook_proxies)


def _reply(receiver: Receiver, environ: WSGIEnvironment, proxies: int) -> Answer:
    path = environ.get("PATH_INFO", "")
    length = str(environ.get("CONTENT_LENGTH") or "")
    provider = path.removeprefix(PATH)
    address = sender(str(environ.get("REMOTE_ADDR", "")), str(environ.get("HTTP_X_FORWARDED_FOR", "")), proxies)
    answer = misdirected(environ["REQUEST_METHOD"], path, length) or receiver.admit(
        provider, address=address, length=length_of(length)
    )
    if answer is not None:
        leave(environ)
        return answer
    try:
        body = read(environ, length_of(length), receiver.max_bytes, BODY_SECONDS)
    except TimeoutError:
        return receiver.gave_up(provider, BODY_SECONDS, address=address)
    except Broken:
        return answer_of(400)
    return receiver.take(provider, _headers(environ), body, address=address)


def _headers(environ: WSGIEnvironment) -> dict[str, str]:
    return {
        name[5:].replace("_", "-").lower(): str(value) for name, value in environ.items() if name.startswith("HTTP_")
    }
