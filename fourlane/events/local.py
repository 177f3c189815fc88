"""An SQS server for development and tests: moto's, in a process of its own that ends with its owner.

It holds everything in memory, and slows down with the square of a queue's length: for queues under some hundred events.
What it serves, and to whom: local_server.py.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from fourlane import private
from fourlane.embedded.files import write_private
from fourlane.errors import EmbeddedServerError
from fourlane.events.local_server import PROOF_PATH, proof

__all__ = ["INSTALL", "REGION", "Found", "LocalSqs", "find", "is_installed"]

INSTALL: Final = "pip install 'fourlane[sqs-local]'"
REGION: Final = "us-east-1"
_START_SECONDS: Final = 30.0
_PROOF_SECONDS: Final = 2.0
_MOST_PROOF_BYTES: Final = 200
_FILE: Final = "sqs.json"


class Found(NamedTuple):
    """A server that runs, and the keys that it takes."""

    endpoint: str
    keys: tuple[str, str]


def is_installed() -> bool:
    """Whether the packages of the extra ``sqs-local`` are here."""
    return all(find_spec(name) for name in ("boto3", "moto", "flask", "flask_cors"))


class LocalSqs:
    """The server; use it as a context manager.

    Parameters:
      data_dir: other commands find the server by a file there; without one only ``endpoint`` tells.
      wait: return only when it answers; else it does after a second or so.

    Attributes:
      token: who knows it may call: as access key, or as bearer of what moto has beside AWS.

    Raises:
      EmbeddedServerError: it does not start.
    """

    def __init__(self, data_dir: Path | None = None, *, wait: bool = True) -> None:
        self._file = data_dir / _FILE if data_dir else None
        self.port = _free_port()
        self.token = secrets.token_hex(16)
        self.endpoint, self.keys = _found(self.port, self.token)
        if self._file is not None:
            try:
                private.folder(self._file.parent)
                write_private(self._file, json.dumps({"port": self.port, "token": self.token}))
            except OSError as error:
                raise EmbeddedServerError(f"moto's server cannot note its port in the data folder: {error}") from error
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fourlane.events.local_server", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | {"AWS_ACCESS_KEY_ID": self.keys[0], "AWS_SECRET_ACCESS_KEY": self.keys[1]},
        )
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self.token}\n".encode())
        self._process.stdin.flush()
        self._errors = b""
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()
        if wait:
            try:
                self._wait()
            except BaseException:
                self.close()
                raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors = (self._errors + line)[-2_000:]

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not _is_ours(self.port, self.token):
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


def find(data_dir: Path) -> Found | None:
    """The server that another process started on this folder; None when there is none.

    Its file outlives one that was killed: whoever listens at that port now is asked for a proof that it is ours.
    """
    try:
        noted = json.loads((data_dir / _FILE).read_text())
        port, token = int(noted["port"]), str(noted["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return _found(port, token) if _is_ours(port, token) else None


def _found(port: int, token: str) -> Found:
    return Found(f"http://127.0.0.1:{port}", (token, "local"))


def _is_ours(port: int, token: str) -> bool:
    nonce = secrets.token_hex(16)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PROOF_SECONDS)
    try:
        connection.request("GET", PROOF_PATH + nonce)
        answer = connection.getresponse().read(_MOST_PROOF_BYTES)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return secrets.compare_digest(answer, proof(token, nonce).encode())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
