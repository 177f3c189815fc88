"""An SQS server for development and tests: moto's, in a process of its own that ends with its owner.

It holds everything in memory, and slows down with the square of a queue's length: for queues under some hundred events.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from fourlane import private
from fourlane.errors import EmbeddedServerError

__all__ = ["INSTALL", "KEYS", "REGION", "LocalSqs", "find", "is_installed"]

INSTALL: Final = "pip install 'fourlane[sqs-local]'"
KEYS: Final = ("local", "local")  # any will do
REGION: Final = "us-east-1"
_START_SECONDS: Final = 30.0
_FILE: Final = "sqs.json"


def is_installed() -> bool:
    """Whether the packages of the extra ``sqs-local`` are here."""
    return all(find_spec(name) for name in ("boto3", "moto", "flask", "flask_cors"))


class LocalSqs:
    """The server; use it as a context manager.

    Parameters:
      data_dir: other commands find the server by a file there; without one only ``endpoint`` tells.
      wait: return only when it answers; else it does after a second or so.

    Raises:
      EmbeddedServerError: it does not start.
    """

    def __init__(self, data_dir: Path | None = None, *, wait: bool = True) -> None:
        self._file = data_dir / _FILE if data_dir else None
        self.port = _free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        if self._file is not None:
            try:
                private.folder(self._file.parent)
                self._file.write_text(json.dumps({"port": self.port}))
            except OSError as error:
                raise EmbeddedServerError(f"moto's server cannot note its port in the data folder: {error}") from error
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fourlane.events.local", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | {"AWS_ACCESS_KEY_ID": KEYS[0], "AWS_SECRET_ACCESS_KEY": KEYS[1]},
        )
        self._errors = b""
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()
        if wait:
            try:
                self._wait()
            except BaseException:
                self.close()
                raise

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors = (self._errors + line)[-2_000:]

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(self.port):
            if self._process.poll() is not None:
                self._reader.join(1)
                said = self._errors.decode(errors="replace").strip().splitlines()
                raise EmbeddedServerError(
                    f"moto's server ended at its start: {said[-1] if said else 'no reason given'}"
                )
            if time.monotonic() > deadline:
                raise EmbeddedServerError(f"moto's server does not answer after {_START_SECONDS:.0f} s")
            time.sleep(0.02)

    def close(self) -> None:
        if self._file is not None:
            self._file.unlink(missing_ok=True)
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stderr.close()

    def __enter__(self) -> LocalSqs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def find(data_dir: Path) -> str | None:
    """The endpoint of the server that another process started on this folder; None when there is none."""
    try:
        port = int(json.loads((data_dir / _FILE).read_text())["port"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return f"http://127.0.0.1:{port}" if _answers(port) else None


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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


def _serve(port: int) -> None:
    import logging

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from moto.sqs.models import SQSBackend
    from werkzeug.serving import make_server

    # It counts the whole queue three times for each message received, to see whether a message is too old.
    backend: Any = SQSBackend
    backend.is_message_valid_based_on_retention_period = lambda *_: True
    backend.receive_message = _for_who_still_listens(backend.receive_message)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # Not moto's own ThreadedMotoServer: that one waits for ever when its port is taken.
    app: Any = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.buffer.read()  # ends with its owner
    os._exit(0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
