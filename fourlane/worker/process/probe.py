"""The worker's local port: ``GET /live`` and ``GET /ready`` for Kubernetes and its like, and further pages.

A thread of the supervisor answers: user code that holds an interpreter's lock is in another process, and a Redis
that does not answer holds up only the main thread.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from itertools import islice
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, Final, NamedTuple

from fourlane.worker.process.health import Health

__all__ = ["Page", "Probe", "json_page"]

log = logging.getLogger("fourlane.supervisor")

_MOST_CONNECTIONS: Final = 16
_SHORT_SECONDS: Final = 0.2
_TELL_SECONDS: Final = 10.0
_WHOLE_SECONDS: Final = 10.0  # of a connection, however slowly its request comes or its answer is read
_MOST_LINE_BYTES: Final = 8_192
_MOST_LINES: Final = 100


class Page(NamedTuple):
    """An answer."""

    code: int
    content_type: str
    body: bytes


class Probe:
    """Serves from its construction until close.

    Parameters:
      host: the address to listen on; "" for all.
      pages: by path, what makes the answer; it is given the request's ``Accept`` header.
    """

    def __init__(
        self,
        port: int,
        health: Callable[[], Health],
        pages: Mapping[str, Callable[[str], Page]] | None = None,
        *,
        host: str = "",
    ) -> None:
        """Raises OSError when the port cannot be had there."""
        self._server = _Server(_listen(host, port), health, pages or {})
        threading.Thread(target=self._server.serve_forever, name="fourlane-probe", daemon=True).start()

    def serve(self, health: Callable[[], Health], pages: Mapping[str, Callable[[str], Page]]) -> None:
        """Answer with these from now on."""
        self._server.health, self._server.pages = health, pages

    @property
    def port(self) -> int:
        return int(self._server.socket.getsockname()[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _listen(host: str, port: int) -> socket.socket:
    if not host and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    return socket.create_server((str(address[0]), port), family=family)


class _Server(ThreadingTCPServer):
    """A thread for each connection, and no more than some: a new one takes the place of the oldest.

    A probe is over in milliseconds, so the oldest is one that only holds its place. None stays for longer than the
    whole time that a connection has.
    """

    daemon_threads = True

    def __init__(
        self, listening: socket.socket, health: Callable[[], Health], pages: Mapping[str, Callable[[str], Page]]
    ) -> None:
        super().__init__(listening.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.health = health
        self.pages = pages
        self._open: dict[int, _Open] = {}  # the oldest first
        self._places = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self._changing = threading.Lock()
        self._told_at = -_TELL_SECONDS

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:
            time.sleep(_SHORT_SECONDS)  # there are no descriptors: it would be tried again at once
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """False closes it."""
        if self._places.acquire(blocking=False):
            return True
        with self._changing:
            for oldest in islice(self._open.values(), 1):
                oldest.end()
        return self._places.acquire(timeout=_SHORT_SECONDS)

    def service_actions(self) -> None:
        """Is called twice a second."""
        with self._changing:
            for connection in self._open.values():
                if time.monotonic() - connection.since < _WHOLE_SECONDS:
                    break
                connection.end()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changing:
            self._open[id(request)] = _Open(request, time.monotonic())
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread is to be had
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def _leave(self, request: Any) -> None:
        with self._changing:
            del self._open[id(request)]
        self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, ConnectionError):
            return  # the client's affair
        if time.monotonic() - self._told_at >= _TELL_SECONDS:
            self._told_at = time.monotonic()
            log.error("a request at the probe's port was not answered: %s: %s", type(error).__name__, error)


class _Open(NamedTuple):
    """A connection, since it was taken."""

    connection: socket.socket
    since: float

    def end(self) -> None:
        """Its thread finds the end, and leaves."""
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is gone already


class _Handler(StreamRequestHandler):
    """One request, and one answer to it. ``http.server`` would do the same, and brings TLS and mail with it."""

    timeout = 5.0  # a client that sends nothing keeps no thread
    server: _Server

    def handle(self) -> None:
        try:
            asked = self._read()
        except TimeoutError:
            return
        if asked is not None:
            method, path, accept = asked
            if method in ("GET", "HEAD"):
                self._reply(self._answer(path, accept), with_body=method == "GET")
            else:
                self._reply(json_page(501, {"error": "there is GET and HEAD"}))

    def _read(self) -> tuple[str, str, str] | None:
        """Method, path and the ``Accept`` header; None: nothing came, or no request."""
        lines: list[str] = []
        while line := self.rfile.readline(_MOST_LINE_BYTES):
            if not line.endswith(b"\n") and len(line) < _MOST_LINE_BYTES:
                return None  # it has gone amid its request
            if not line.endswith(b"\n") or len(lines) == _MOST_LINES:
                self._reply(json_page(431, {"error": "the request is too long"}))
                return None
            if not line.strip():
                break
            lines.append(line.decode("latin-1").strip())
        words = lines[0].split() if lines else []
        if lines and (len(words) != 3 or not words[2].startswith("HTTP/")):
            self._reply(json_page(400, {"error": "this is no request"}))
            return None
        named = [line.partition(":") for line in lines[1:]]
        accept = ",".join(value.strip() for name, _, value in named if name.strip().lower() == "accept")
        return (words[0], words[1].partition("?")[0], accept) if words else None

    def _answer(self, path: str, accept: str) -> Page:
        pages: Mapping[str, Callable[[str], Page]] = self.server.pages
        if path in pages:
            return pages[path](accept)
        health: Health = self.server.health()
        if path not in ("/live", "/ready"):
            return json_page(404, {"error": f"there is {', '.join(('/live', '/ready', *pages))}"})
        well = health.live if path == "/live" else health.ready
        return json_page(200 if well else 503, {path[1:]: well, **health.details})

    def _reply(self, page: Page, *, with_body: bool = True) -> None:
        head = (
            f"HTTP/1.0 {page.code} {HTTPStatus(page.code).phrase}\r\nContent-Type: {page.content_type}\r\n"
            f"Content-Length: {len(page.body)}\r\nConnection: close\r\n\r\n"
        )
        self.wfile.write(head.encode("latin-1") + (page.body if with_body else b""))


def json_page(code: int, content: dict[str, Any]) -> Page:
    """An answer in JSON."""
    return Page(code, "application/json", json.dumps(content).encode() + b"\n")
