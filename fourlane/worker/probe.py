"""The worker's local probe over HTTP: ``GET /live`` and ``GET /ready``, for Kubernetes and its like.

A thread of the supervisor answers: user code that holds an interpreter's lock is in another process, and a Redis
that does not answer holds up only the main thread.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

__all__ = ["Health", "Probe"]


class Health(NamedTuple):
    """What the probe tells."""

    live: bool
    ready: bool
    details: dict[str, Any]


class Probe:
    """Serves from its construction until close."""

    def __init__(self, port: int, health: Callable[[], Health]) -> None:
        """Raises OSError when the port cannot be had."""
        both = socket.has_dualstack_ipv6()
        listening = socket.create_server(
            ("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
        )
        self._server = ThreadingHTTPServer(listening.getsockname()[:2], _Handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listening
        self._server.health = health  # type: ignore[attr-defined]
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
        health: Health = self.server.health()  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        if path not in ("/live", "/ready"):
            self._reply(404, {"error": "there is /live and /ready"})
            return
        well = health.live if path == "/live" else health.ready
        self._reply(200 if well else 503, {path[1:]: well, **health.details})

    def _reply(self, code: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode() + b"\n"
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Probes come every few seconds: no line for each."""
