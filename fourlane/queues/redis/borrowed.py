"""A connection of redis-py's, of a client that we were given or of a cluster's: its errors become ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fourlane.queues.redis import failures

__all__ = ["Borrowed"]


class Borrowed:
    """In the place of a Wire."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def _sock(self) -> Any:
        return self._connection._sock

    @property
    def socket_timeout(self) -> float:
        """How long it waits for an answer."""
        return float(self._connection.socket_timeout)

    def connect(self) -> None:
        self._ask(self._connection.connect)

    def send_packed_command(self, pieces: Sequence[bytes], check_health: bool = False) -> None:
        self._ask(self._connection.send_packed_command, pieces, check_health=check_health)

    def read_response(self) -> Any:
        return self._ask(self._connection.read_response)

    def can_read(self, within_seconds: float) -> bool:
        return bool(self._ask(self._connection.can_read, within_seconds))

    def disconnect(self) -> None:
        self._connection.disconnect()

    def _ask(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        try:
            return call(*args, **named)
        except Exception as error:
            ours = failures.of(error)
            if ours is error:
                raise
            raise ours from error
