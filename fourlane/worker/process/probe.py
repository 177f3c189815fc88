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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple

from fourlane.worker.process.health import Health

__all__ = ["Page", "Probe", "json_page"]

log = logging.getLogger("fourlane.supervisor")

_MOST_CONNECTIONS: Final = 16
_SHORT_SECONDS: Final = 0.2
_TELL_SECONDS: Final = 10.0


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


class _Server(ThreadingHTTPServer):
    """A thread for each connection, and no more than some: a new one takes the place of the oldest.

    A probe is over in milliseconds, so the oldest is one that only holds its place.
    """

    def __init__(
        self, listening: socket.socket, health: Callable[[], Health], pages: Mapping[str, Callable[[str], Page]]
    ) -> None:
        super().__init__(listening.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.health = health
        self.pages = pages
        self._open: dict[int, socket.socket] = {}  # the oldest first
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
            oldest = next(iter(self._open.values()), None)
            if oldest is not None:
                try:
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread finds the end, and leaves
                except OSError:
                    pass  # it is gone already
        return self._places.acquire(timeout=_SHORT_SECONDS)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changing:
            self._open[id(request)] = request
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


class _Handler(BaseHTTPRequestHandler):
    timeout = 5.0  # a client that sends nothing keeps no thread
    server: _Server

    def do_GET(self) -> None:
        pages: Mapping[str, Callable[[str], Page]] = self.server.pages
        path = self.path.partition("?")[0]
        if path in pages:
            self._reply(pages[path](self.headers.get("Accept", "")))
            return
        health: Health = self.server.health()
        if path not in ("/live", "/ready"):
            self._reply(json_page(404, {"error": f"there is {', '.join(('/live', '/ready', *pages))}"}))
            return
        well = health.live if path == "/live" else health.ready
        self._reply(json_page(200 if well else 503, {path[1:]: well, **health.details}))

    def do_HEAD(self) -> None:
        """As GET, without the body."""
        self.do_GET()

    def _reply(self, page: Page) -> None:
        self.send_response(page.code)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    def log_message(self, format: str, *args: object) -> None:
        """Probes come every few seconds: no line for each."""


def json_page(code: int, content: dict[str, Any]) -> Page:
    """An answer in JSON."""
    return Page(code, "application/json", json.dumps(content).encode() + b"\n")
