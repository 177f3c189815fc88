"""Stands between boto3 and an SQS server, forwards its calls, counts them, and breaks those that a test chooses.

A fault is a function of the call: it may answer in place of the server, change what goes there or what comes back.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter, deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Call", "FaultProxy"]

Fault = Callable[["Call"], "tuple[int, bytes] | None"]


class Call:
    """One call of SQS on its way: its action, its JSON, and how to pass it on."""

    def __init__(self, proxy: FaultProxy, method: str, path: str, headers: Any, body: bytes) -> None:
        self._proxy = proxy
        self._method, self._path = method, path
        self._headers = {k: v for k, v in headers.items() if k.lower() not in ("host", "content-length")}
        self.body = body
        self.action = headers.get("X-Amz-Target", "").partition(".")[2] or f"{method} {path.split('?')[0]}"

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    def forward(self, changed: dict[str, Any] | None = None) -> tuple[int, bytes]:
        """The server's answer, to the call as it is or as it was changed."""
        body = self.body if changed is None else json.dumps(changed).encode()
        connection = http.client.HTTPConnection(self._proxy.host, self._proxy.target_port, timeout=60)
        try:
            connection.request(self._method, self._path, body, self._headers)
            answer = connection.getresponse()
            self._proxy.last_headers = dict(answer.getheaders())
            return answer.status, answer.read()
        finally:
            connection.close()


class FaultProxy:
    """Use as a context manager; ``endpoint`` is for boto3."""

    def __init__(self, endpoint: str) -> None:
        self.host = "127.0.0.1"
        self.target_port = urlsplit(endpoint).port or 0
        self.calls: Counter[str] = Counter()
        self.last_headers: dict[str, str] = {}
        self._faults: dict[str, deque[Fault]] = {}
        self._standing: dict[str, Fault] = {}
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                proxy._serve(self)

            do_PUT = do_GET = do_DELETE = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # a client that went away

        self._server = Server((self.host, 0), Handler)
        self.port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    # Faults -------------------------------------------------------------------------------------------------

    def next(self, action: str, fault: Fault, times: int = 1) -> None:
        """The next calls of this action meet this fault."""
        with self._lock:
            self._faults.setdefault(action, deque()).extend([fault] * times)

    def always(self, action: str, fault: Fault | None) -> None:
        """Every call of this action, until told None."""
        with self._lock:
            if fault is None:
                self._standing.pop(action, None)
            else:
                self._standing[action] = fault

    def _fault(self, action: str) -> Fault | None:
        with self._lock:
            self.calls[action] += 1
            waiting = self._faults.get(action)
            return waiting.popleft() if waiting else self._standing.get(action) or self._standing.get("*")

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        call = Call(self, request.command, request.path, request.headers, body)
        fault = self._fault(call.action)
        reply = call.forward() if fault is None else fault(call)
        if reply is None:  # the connection breaks
            request.close_connection = True
            request.connection.close()
            return
        status, content = reply
        request.send_response(status)
        for name in ("Content-Type", "ETag", "x-amzn-RequestId"):
            if name in self.last_headers and fault is None:
                request.send_header(name, self.last_headers[name])
        if fault is not None:
            request.send_header("Content-Type", "application/x-amz-json-1.0")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


# What faults do ---------------------------------------------------------------------------------------------------


def refuse(code: str, status: int = 400, text: str = "made by a test") -> Fault:
    """An error in SQS's words, in place of the server's answer."""
    return lambda call: (status, json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": text}).encode())


def lose_reply(call: Call) -> None:
    """The server does it, and nobody hears of it."""
    call.forward()


def cut(call: Call) -> None:
    """The connection breaks before the server hears of it."""


def half_fail(call: Call) -> tuple[int, bytes]:
    """Every second entry of a batch fails, as SQS reports it; the server sees the others."""
    asked = call.json
    entries = asked["Entries"]
    status, content = call.forward(asked | {"Entries": entries[::2]})
    answer = json.loads(content)
    answer.setdefault("Failed", []).extend(
        {"Id": e["Id"], "SenderFault": False, "Code": "InternalError", "Message": "made by a test"}
        for e in entries[1::2]
    )
    return status, json.dumps(answer).encode()


def reorder(call: Call) -> tuple[int, bytes]:
    """What is received comes backwards."""
    status, content = call.forward()
    answer = json.loads(content)
    answer.get("Messages", []).reverse()
    return status, json.dumps(answer).encode()


def twice(call: Call) -> tuple[int, bytes]:
    """Each message is received twice, in one batch."""
    status, content = call.forward(call.json | {"MaxNumberOfMessages": 5})
    answer = json.loads(content)
    if "Messages" in answer:
        answer["Messages"] = [*answer["Messages"], *answer["Messages"]]
    return status, json.dumps(answer).encode()
