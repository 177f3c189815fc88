"""The worker's local port: ``GET /live`` and ``GET /ready`` for Kubernetes and its like, and further pages.

A thread of the supervisor answers: user code that holds an interpreter's lock is in another process, and a Redis
that does not answer holds up only the main thread.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

__all__ = ["Health", "Page", "Probe", "json_page"]


class Health(NamedTuple):
    """What the probe tells."""

    live: bool
    ready: bool
    details: dict[str, Any]


class Page(NamedTuple):
    """An answer."""

    code: int
    content_type: str
    body: bytes


class Probe:
    """Serves from its construction until close.

    Parameters:
      pages: by path, what makes the answer; it is given the request's ``Accept`` header.
    """

    def __init__(
        self, port: int, health: Callable[[], Health], pages: Mapping[str, Callable[[str], Page]] | None = None
    ) -> None:
        """Raises OSError when the port cannot be had."""
        both = socket.has_dualstack_ipv6()
        listening = socket.create_server(
            ("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
        )
        self._server = ThreadingHTTPServer(listening.getsockname()[:2], _Handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listening
        self._server.health = health  # type: ignore[attr-defined]
        self._server.pages = pages or {}  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, name="fourlane-probe", daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.socket.getsockname()[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    timeout = 5.0  # a client that sends nothing keeps no thread

    def do_GET(self) -> None:
        pages: Mapping[str, Callable[[str], Page]] = self.server.pages  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        if path in pages:
            self._reply(pages[path](self.headers.get("Accept", "")))
            return
        health: Health = self.server.health()  # type: ignore[attr-defined]
        if path not in ("/live", "/ready"):
            self._reply(json_page(404, {"error": f"there is {', '.join(('/live', '/ready', *pages))}"}))
            return
        well = health.live if path == "/live" else health.ready
        self._reply(json_page(200 if well else 503, {path[1:]: well, **health.details}))

    def _reply(self, page: Page) -> None:
        self.send_response(page.code)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        self.wfile.write(page.body)

    def log_message(self, format: str, *args: object) -> None:
        """Probes come every few seconds: no line for each."""


def json_page(code: int, content: dict[str, Any]) -> Page:
    """An answer in JSON."""
    return Page(code, "application/json", json.dumps(content).encode() + b"\n")
