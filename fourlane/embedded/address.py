"""Where an embedded server answers, and what it says of itself."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fourlane.embedded.files import write_private

if TYPE_CHECKING:
    import redis

__all__ = ["Address", "Answer", "ask", "ask_to_end", "client_of"]


@dataclass(frozen=True)
class Address:
    """What ``server.json`` holds."""

    port: int
    password: str

    @classmethod
    def new(cls) -> Address:
        return cls(_free_port(), secrets.token_hex(24))

    @classmethod
    def read(cls, folder: Path) -> Address | None:
        """What ``server.json`` says; None when it is missing or not as we write it."""
        try:
            stored = json.loads((folder / "server.json").read_text())
            address = cls(int(stored["port"]), stored["password"])
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None
        # The password becomes part of the config file: nothing but what we make ourselves may get there.
        return address if re.fullmatch(r"[0-9a-f]{48}", str(address.password)) else None

    def save(self, folder: Path) -> None:
        write_private(folder / "server.json", json.dumps(asdict(self)))

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"


def _free_port() -> int:
    """A port that nobody used a moment ago.

    Below the range from which systems number outgoing connections (Linux: 32768 and up): in there, a client
    that retries while the server is down can be given the server's port, and then talks to itself.
    """
    while True:
        port = 20000 + secrets.randbelow(12000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


@dataclass(frozen=True)
class Answer:
    version: str
    loading: bool


def ask(folder: Path, address: Address) -> Answer | None:
    """Who answers at ``address``; None when nobody does, or the server of another folder.

    A copied folder has the same port and password, so only the folder tells them apart.
    """
    import redis

    try:
        with client_of(address) as client:
            info = client.info()
            home = client.config_get("dir")["dir"]
    except redis.RedisError:
        return None
    if not (os.path.exists(home) and os.path.samefile(home, folder)):
        return None
    name = info.get("server_name", "redis")
    return Answer(f"{name} {info.get(f'{name}_version')}", bool(info["loading"]))


def ask_to_end(address: Address) -> None:
    import redis

    try:
        with client_of(address) as client:
            client.shutdown()
    except redis.RedisError:
        pass  # it is ending already, or cannot be reached: the caller waits and says so


def client_of(address: Address) -> redis.Redis:
    # Imported here, so that importing this module costs nothing.
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis(
        port=address.port,
        host="127.0.0.1",
        password=address.password,
        socket_connect_timeout=1,
        socket_timeout=2,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        encoding_errors="surrogateescape",  # as Python does for paths that are not UTF-8
    )
