"""The pages that notifications need, as one WSGI application: reports of providers, and unsubscribing.

========================  =====================================================================
``POST /resend``          Resend's webhook
``POST /twilio``          Twilio's status callback, and incoming messages (STOP and START);
                          ``FOURLANE_TWILIO_STATUS_URL`` is its public address
``POST /unsubscribe``     one click in a mail program (RFC 8058), or the button of the page
``GET /unsubscribe``      a page with a button: programs that look at links must not unsubscribe anybody
========================  =====================================================================

Serve it under any prefix: ``gunicorn --threads 16 'fourlane.tasks.notifications.wsgi:from_settings()'``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs

from fourlane.errors import DatabaseUnavailable
from fourlane.providers.setup import plain
from fourlane.root import root
from fourlane.tasks.notifications import feedback, unsubscribe
from fourlane.tasks.notifications.ledger import Ledger
from fourlane.tasks.notifications.setup import ledger

__all__ = ["Pages", "from_settings"]

_MAX_BODY_BYTES: Final = 1_000_000
_NO_ANSWER: Final = "<Response/>"  # TwiML
_Start = Callable[[str, list[tuple[str, str]]], Any]


class Pages:
    """The application. A report without its secret set is refused (404).

    Parameters:
      twilio_url: the public address that Twilio was given for its reports.
    """

    def __init__(
        self, ledger: Ledger, *, resend_secret: str = "", twilio_token: str = "", twilio_url: str = ""
    ) -> None:
        self._ledger = ledger
        self._resend_secret = resend_secret
        self._twilio_token = twilio_token
        self._twilio_url = twilio_url

    def __call__(self, environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        try:
            status, page = self._answer(environ)
        except (feedback.Forged, feedback.Unreadable, unsubscribe.InvalidLink) as error:
            status, page = 401 if isinstance(error, feedback.Forged) else 400, str(error)
        except DatabaseUnavailable:
            status, page = 503, "try again later"
        body = page.encode()
        kind = f"text/{_kind(page)}; charset=utf-8"
        start(
            f"{status} {HTTPStatus(status).phrase}",
            [("Content-Type", kind), ("Content-Length", str(len(body))), ("Referrer-Policy", "no-referrer")],
        )
        return [body]

    def _answer(self, environ: dict[str, Any]) -> tuple[int, str]:
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if path == "/unsubscribe" and method in ("GET", "HEAD", "POST"):
            token = parse_qs(environ.get("QUERY_STRING", "")).get("token", [""])[0]
            wish = unsubscribe.read(token)
            if method != "POST":
                return 200, _button(wish)
            self._ledger.unsubscribe(
                wish.channel, wish.category, user_id=wish.user_id, address=wish.address, tenant=wish.tenant
            )
            return 200, "You are unsubscribed."
        if method != "POST" or path not in ("/resend", "/twilio"):
            return 404, "no such page"
        body = _body(environ)
        headers = {name[5:].replace("_", "-").lower(): v for name, v in environ.items() if name.startswith("HTTP_")}
        if path == "/resend" and self._resend_secret:
            feedback.resend(self._ledger, headers, body, secret=self._resend_secret)
            return 200, "noted"
        if path == "/twilio" and self._twilio_token:
            query = environ.get("QUERY_STRING", "")
            url = f"{self._twilio_url}?{query}" if query else self._twilio_url
            told = feedback.twilio(self._ledger, url, headers, body, token=self._twilio_token)
            # What is said to an incoming message, Twilio sends as the answer to it.
            return 200, _NO_ANSWER if told == "received" else "noted"
        return 404, "no such page"


def _kind(page: str) -> str:
    if page == _NO_ANSWER:
        return "xml"
    return "html" if page.startswith("<") else "plain"


def _body(environ: dict[str, Any]) -> bytes:
    length = environ.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdecimal() and len(length) < 19) or int(length) > _MAX_BODY_BYTES:
        raise feedback.Unreadable("a Content-Length of at most 1 MB is needed")
    body: bytes = environ["wsgi.input"].read(int(length))
    return body


def _button(wish: unsubscribe.Wish) -> str:
    return (
        "<!doctype html><meta charset=utf-8><title>Unsubscribe</title>"
        f"<form method=post><p>No more messages of the kind “{escape(wish.category)}”?"
        "<p><button>Unsubscribe</button></form>"
    )


def from_settings() -> Pages:
    """The application that the settings describe. Raises SettingsError."""
    settings = root().settings
    return Pages(
        root().part(ledger),
        resend_secret=plain(settings.resend_webhook_secret),
        twilio_token=plain(settings.twilio_auth_token),
        twilio_url=settings.twilio_status_url or "",
    )
