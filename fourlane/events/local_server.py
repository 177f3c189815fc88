"""The process of the SQS server for development: moto's, for one caller who knows the token, one call at a time."""

from __future__ import annotations

import functools
import hmac
import json
import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

__all__ = ["PROOF_PATH", "one_at_a_time", "proof", "refusal"]

PROOF_PATH: Final = "/fourlane/"
"""Whoever serves proves here that it has the token: ``PROOF_PATH + nonce`` answers with `proof`."""
_RESERVED: Final = "/moto-api"
_SERVICES: Final = ("sqs", "s3")
_SIGNED: Final = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/[^/,\s]*/[^/,\s]*/([^/,\s]+)/aws4_request")
_BY_QUERY: Final = re.compile(r"([^/]+)/[^/]*/[^/]*/([^/]+)/aws4_request")
_OF_BROWSERS: Final = ("HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE", "HTTP_SEC_FETCH_MODE")
# What reads or changes a queue's messages: moto looks, and then takes, so two callers at once may both have one
# message, or two of one group of a FIFO queue.
_OF_MESSAGES: Final = (
    "send_message",
    "send_message_batch",
    "receive_message",
    "delete_message",
    "delete_message_batch",
    "change_message_visibility",
    "change_message_visibility_batch",
    "purge_queue",
)


def refusal(environ: Mapping[str, Any], token: str, port: int) -> str:
    """Why a request is not served; empty: it is.

    A web page cannot set the header that has the token, and a name that leads here by DNS is another host.
    """
    if environ.get("HTTP_HOST") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
        return "this is no host of this server"
    if any(name in environ for name in _OF_BROWSERS):
        return "this server is not for browsers"
    path = str(environ.get("PATH_INFO", ""))
    if path.startswith(PROOF_PATH):
        return ""
    header = str(environ.get("HTTP_AUTHORIZATION", ""))
    if path.startswith(_RESERVED):
        return "" if _is(header.removeprefix("Bearer "), token) else "the token is missing"
    signed = _SIGNED.match(header) or _BY_QUERY.fullmatch(_credential(str(environ.get("QUERY_STRING", ""))))
    if signed is None or not _is(signed[1], token):
        return "the access key of this server is missing; it is in sqs.json in the data folder"
    return "" if signed[2] in _SERVICES else f"{signed[2]} is not served here"


def _credential(query: str) -> str:
    return (parse_qs(query).get("X-Amz-Credential") or [""])[0]


def _is(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def proof(token: str, nonce: str) -> str:
    """Shows that one has the token, without saying it."""
    return hmac.new(token.encode(), nonce.encode("utf-8", "surrogateescape"), "sha256").hexdigest()


def _guarded(app: Any, token: str, port: int) -> Any:
    """The application, for those who may call it."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        why = refusal(environ, token, port)
        if why:
            start_response("403 Forbidden", [("Content-Type", "application/json")])
            return [json.dumps({"__type": "AccessDenied", "message": why}).encode()]
        path = str(environ.get("PATH_INFO", ""))
        if path.startswith(PROOF_PATH):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [proof(token, path.removeprefix(PROOF_PATH)).encode()]
        found: Iterable[bytes] = app(environ, start_response)
        return found

    return answer


def one_at_a_time(backend: Any) -> None:
    """Let no two calls meet in this class of moto's backend."""
    lock = threading.RLock()

    def held(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            with lock:
                return function(*args, **options)

        return call

    for name in _OF_MESSAGES:
        setattr(backend, name, held(getattr(backend, name)))


def _for_who_still_listens(receive: Any) -> Any:
    """moto's receive, without what it does for a client that is gone: to take messages for it, for up to 20 s."""
    from flask import request

    def is_gone() -> bool:
        try:
            return bool(request.environ["werkzeug.socket"].recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"")
        except BlockingIOError:
            return False
        except OSError:
            return True

    def receive_message(
        backend: Any, queue_name: str, count: int, wait_seconds: int, visibility_seconds: int, names: Any = None
    ) -> Any:
        deadline = time.monotonic() + wait_seconds
        while True:
            found = receive(backend, queue_name, count, 0, visibility_seconds, names)
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            backend.get_queue(queue_name).wait_for_messages(min(1, left))
            if is_gone():
                return []

    return receive_message


def _serve(port: int, token: str) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from moto.sqs.models import SQSBackend
    from werkzeug.serving import make_server

    # It counts the whole queue three times for each message received, to see whether a message is too old.
    backend: Any = SQSBackend
    backend.is_message_valid_based_on_retention_period = lambda *_: True
    one_at_a_time(backend)
    backend.receive_message = _for_who_still_listens(backend.receive_message)  # which waits without the lock
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # Not moto's own ThreadedMotoServer: that one waits for ever when its port is taken.
    app = _guarded(DomainDispatcherApplication(create_backend_app), token, port)
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.buffer.read()  # ends with its owner
    os._exit(0)


if __name__ == "__main__":
    # Not by an argument: those can be seen by all users.
    _serve(int(sys.argv[1]), sys.stdin.buffer.readline().decode().strip())
