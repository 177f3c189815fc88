"""localstripe: a Stripe that somebody else wrote, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from tests.servers import eventually, free_port

__all__ = ["KEY", "Localstripe", "localstripe"]

KEY = "sk_test_12345"


class Localstripe:
    def __init__(self, url: str) -> None:
        self.url = url

    def post(self, path: str, data: dict[str, str], *, key: str = KEY) -> Any:
        """Make something, by plain HTTP."""
        answer = httpx.post(f"{self.url}/{path}", auth=(key, ""), data=data)
        answer.raise_for_status()
        return answer.json()


@contextmanager
def localstripe() -> Iterator[Localstripe]:
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "localstripe", "--port", str(port), "--from-scratch"]
    made = Localstripe(f"http://127.0.0.1:{port}")
    with TemporaryDirectory() as folder:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)

        def answers() -> bool:
            assert process.poll() is None, "localstripe ended"
            try:
                return httpx.get(f"{made.url}/v1/customers", auth=(KEY, "")).status_code == 200
            except httpx.TransportError:
                return False

        try:
            eventually(answers, 60)
            yield made
        finally:
            process.terminate()
            process.wait(10)
