"""A webhook receiver with good and bad days, on loopback, for trying deliveries out.

    python -m examples.deliveries.receiver --port 8123

| path     | answer                                            |
|----------|---------------------------------------------------|
| `/ok`    | 200                                               |
| `/slow`  | 200 after 300 to 800 ms                           |
| `/flaky` | 503 to the first two requests of a webhook-id, then 200 |
| `/dead`  | 500, always                                       |
| `/gone`  | 410, always                                       |
| `/stats` | what came so far, as JSON (GET)                   |

Every POST must carry a valid Standard Webhooks signature; otherwise the answer is 401.
"""

from __future__ import annotations

import argparse
import errno
import json
import random
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, TypedDict

import standardwebhooks

__all__ = ["DEMO_SECRET", "PathStats", "Receiver", "Stats", "main"]

DEMO_SECRET = "whsec_Zm91cmxhbmUtZXhhbXBsZS1kZWxpdmVyaWVzLWtleQ=="
"""Signs the examples. No secret at all: it is printed here."""

_STATUS_OF = {"/ok": 200, "/slow": 200, "/flaky": 200, "/dead": 500, "/gone": 410}
_FLAKY_FAILURES = 2
_MAX_BODY_BYTES = 1_000_000


class PathStats(TypedDict):
    """What came to one path, of the requests whose signature was right.

    requests: all of them, retries included.
    distinct: different webhook-ids.
    accepted: different webhook-ids that were answered with 200.
    duplicates: requests whose webhook-id had been answered with 200 already.
    """

    requests: int
    distinct: int
    accepted: int
    duplicates: int


class Stats(TypedDict):
    """What `/stats` returns; `unverified` counts the requests answered with 401."""

    paths: dict[str, PathStats]
    unverified: int


class _Ledger:
    """Counts the requests of each path and webhook-id, and decides the answer. Safe among threads."""

    def __init__(self) -> None:
        self._first: dict[str, float] = {}
        self._lock = threading.Lock()
        self._seen: dict[str, Counter[str]] = {path: Counter() for path in _STATUS_OF}
        self._accepted: dict[str, set[str]] = {path: set() for path in _STATUS_OF}
        self._duplicates: Counter[str] = Counter()
        self._unverified = 0

    def answer(self, path: str, webhook_id: str) -> int:
        """Note a verified request and return the status to answer it with."""
        with self._lock:
            self._first.setdefault(webhook_id, time.time())
            self._seen[path][webhook_id] += 1
            status = _STATUS_OF[path]
            if path == "/flaky" and self._seen[path][webhook_id] <= _FLAKY_FAILURES:
                status = 503
            if status == 200:
                if webhook_id in self._accepted[path]:
                    self._duplicates[path] += 1
                self._accepted[path].add(webhook_id)
            return status

    def arrivals(self) -> dict[str, float]:
        with self._lock:
            return dict(self._first)

    def note_unverified(self) -> None:
        with self._lock:
            self._unverified += 1

    def stats(self) -> Stats:
        with self._lock:
            paths = {
                path: PathStats(
                    requests=seen.total(),
                    distinct=len(seen),
                    accepted=len(self._accepted[path]),
                    duplicates=self._duplicates[path],
                )
                for path, seen in self._seen.items()
            }
            return Stats(paths=paths, unverified=self._unverified)


class Receiver:
    """The receiver as an object: listens once made, answers once started; also a context manager.

    Parameters:
      port: 0 takes a free one.
      secret: what signatures are checked with.

    Raises:
      OSError: the port is in use.
    """

    def __init__(self, port: int = 0, *, secret: str = DEMO_SECRET) -> None:
        self._ledger = _Ledger()
        self._stopping = threading.Event()
        self._server = _Server(("127.0.0.1", port), self._ledger, standardwebhooks.Webhook(secret), self._stopping)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="receiver")

    @property
    def url(self) -> str:
        """Where it listens, without a path: ``http://127.0.0.1:8123``."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def stats(self) -> Stats:
        return self._ledger.stats()

    def arrivals(self) -> dict[str, float]:
        """When each webhook-id came first (Unix time)."""
        return self._ledger.arrivals()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; what is being answered is answered at once."""
        self._stopping.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    # Connections that senders keep for reuse must not hold up the end of the process.
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(
        self,
        address: tuple[str, int],
        ledger: _Ledger,
        webhook: standardwebhooks.Webhook,
        stopping: threading.Event,
    ) -> None:
        self.ledger = ledger
        self.webhook = webhook
        self.stopping = stopping
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A sender that hangs up in the middle is its own business.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # Headers and body leave in one packet: in two, each answer would wait 40 ms for a delayed ACK.
    wbufsize = 64 * 1024
    disable_nagle_algorithm = True
    timeout = 60

    def do_GET(self) -> None:
        if self.path == "/stats":
            self._send(200, self.server.ledger.stats())
        else:
            self._send(404, {"error": "no such path"})

    def do_POST(self) -> None:
        body = self._read_body()
        if body is None:
            self.close_connection = True
            self._send(413, {"error": "a Content-Length of at most 1 MB is needed"})
            return
        if self.path not in _STATUS_OF:
            self._send(404, {"error": "no such path"})
            return
        webhook_id = self.headers.get("webhook-id", "")
        if not self._is_signed(body):
            self.server.ledger.note_unverified()
            self._send(401, {"error": "the signature does not fit"})
            return
        if self.path == "/slow":
            self.server.stopping.wait(_slowness_seconds(webhook_id))
        status = self.server.ledger.answer(self.path, webhook_id)
        self._send(status, {"received": status == 200, "id": webhook_id})

    def _read_body(self) -> bytes | None:
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY_BYTES:
            return None
        return self.rfile.read(int(length))

    def _is_signed(self, body: bytes) -> bool:
        try:
            self.server.webhook.verify(body, dict(self.headers), json_parse=False)
        except (standardwebhooks.WebhookVerificationError, ValueError):
            return False  # ValueError: not UTF-8, or a signature that is not base64
        return True

    def _send(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass  # thousands of lines would only slow the demo down


def _slowness_seconds(webhook_id: str) -> float:
    """300 to 800 ms, the same for the same id, so that a run can be repeated."""
    return random.Random(webhook_id).uniform(0.3, 0.8)


def main(arguments: list[str] | None = None) -> int:
    """Run until interrupted; returns the exit code."""
    parser = argparse.ArgumentParser(description="A webhook receiver with good and bad days.")
    parser.add_argument("--port", type=int, default=8123, help="0 takes a free one (default 8123)")
    parser.add_argument("--secret", default=DEMO_SECRET, help="whsec_…; the examples' own by default")
    options = parser.parse_args(arguments)
    try:
        receiver = Receiver(options.port, secret=options.secret)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        print(f"Port {options.port} is in use. Choose another: --port 0 takes a free one.", file=sys.stderr)
        return 1
    with receiver:
        print(f"Receiving at {receiver.url}, counts at {receiver.url}/stats; Ctrl-C ends it.", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
