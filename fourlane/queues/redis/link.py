"""One connection to a server: scripts and commands on it, and whatever fails there as a RedisUnavailable."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, Final

from hiredis import pack_command as _pack

from fourlane.errors import RedisUnavailable
from fourlane.queues.redis import failures
from fourlane.queues.redis.borrowed import Borrowed
from fourlane.queues.redis.errors import is_full, is_refusal, unavailable, wants_new_address
from fourlane.queues.redis.scripts import FLAG, Script, Scripts
from fourlane.queues.redis.wire import Wire

__all__ = ["Link", "blocks_for"]

_ORIGIN_SECONDS = 30.0  # a third of what Redis remembers a key's last call for (lua/parts/once.lua)
_SHORTEST_BLOCK_SECONDS: Final = 0.002  # Redis 6.2 makes 0 of 0.001, and 0 means for ever


def blocks_for(seconds: float) -> str:
    """The last word of a blocking command: how long it waits, never for ever."""
    return f"{max(seconds, _SHORTEST_BLOCK_SECONDS):.3f}"


class Link:
    """One connection. Whatever goes wrong with it is a RedisUnavailable."""

    def __init__(self, connection: Wire | Borrowed, scripts: Scripts) -> None:
        self.connection = connection
        self._scripts = scripts
        self._origins: tuple[bytes, bytes] | None = None
        self._origins_until = 0.0
        self._calls = 0

    def next_call(self, sent: bytes) -> tuple[bytes, int]:
        """The identity of a call that is made on this link first: a key that begins with ``sent``, and a number.

        A script remembers the last number that it saw under a key. So a key must never have two calls without a
        reply: two in turn have different keys, and a connection that is lost takes its keys with it.
        """
        now = time.monotonic()
        if self._origins is None or now > self._origins_until:
            origin = secrets.token_urlsafe(9).encode()
            self._origins, self._origins_until = (origin + b"0", origin + b"1"), now + _ORIGIN_SECONDS
            self._calls = 0
        self._calls = number = self._calls + 1
        return sent + self._origins[number & 1], number

    def run(self, name: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """Run a script. Raises RedisUnavailable; whether the script ran is then unknown."""
        wanted = self._script(name)
        try:
            return self.command("EVALSHA", wanted.sha, len(keys), *keys, *args)
        except failures.NoScriptError:
            if self._scripts.flagged is None:
                self._scripts.flagged = self._takes_flag()
            wanted = self._script(name)
        except RedisUnavailable as error:
            return self._run_when_full(wanted, error, keys, args)
        try:
            return self.command("EVAL", wanted.source, len(keys), *keys, *args)
        except RedisUnavailable as error:
            return self._run_when_full(wanted, error, keys, args)

    def _script(self, name: str) -> Script:
        try:
            return self._scripts.get(name)
        except OSError as error:  # no descriptor is left to read it with
            raise unavailable(error) from error

    def _run_when_full(self, refused: Script, error: RedisUnavailable, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        # Refused at its first write, so nothing was done.
        if refused.when_full is None or not is_full(error):
            raise error
        return self.command("EVAL", refused.when_full.source, len(keys), *keys, *args)

    def _takes_flag(self) -> bool:
        try:
            self.command("EVAL", FLAG + "return 1", 0)
        except RedisUnavailable as error:
            if is_refusal(error):
                return False
            raise
        return True

    def send_script(self, name: str, keys: Sequence[Any], args: Sequence[Any]) -> None:
        """Send a script's call; ``receive_script`` reads its reply."""
        wanted = self._script(name)
        self.send("EVALSHA", wanted.sha, len(keys), *keys, *args)

    def receive_script(self) -> Any:
        """The reply; None when the server did not know the script, or had no memory for it: nothing was done."""
        try:
            return self.receive()
        except failures.NoScriptError:
            return None
        except RedisUnavailable as error:
            if is_full(error):
                return None
            raise

    def command(self, *words: Any) -> Any:
        """Send one command and read its reply."""
        self.send(*words)
        return self.receive()

    def send(self, *words: Any) -> None:
        packed = [_pack(words)]
        try:
            if self.connection._sock is None:
                self.connection.connect()
            self.connection.send_packed_command(packed, check_health=False)
        except Exception as error:
            self.close()
            raise unavailable(error) from error
        except BaseException:  # an interrupt: half a request may be sent
            self.close()
            raise

    def receive(self) -> Any:
        """Read one reply."""
        try:
            return self.connection.read_response()
        except failures.NoScriptError:
            raise
        except Exception as error:
            # A server that answers with an error is in a known state, but READONLY and the like want a new address.
            if not isinstance(error, failures.ResponseError) or wants_new_address(error):
                self.close()
            raise unavailable(error) from error
        except BaseException:  # an interrupt: the reply, or half of it, is still to come
            self.close()
            raise

    def has_reply(self) -> bool:
        """Whether something that was sent lies here unread."""
        try:
            return bool(self.connection.can_read(0))
        except Exception as error:
            self.close()
            raise unavailable(error) from error

    def fileno(self) -> int:
        """The socket, for a selector. Connects when it must."""
        try:
            self.connection.connect()
            assert self.connection._sock is not None
            return int(self.connection._sock.fileno())
        except Exception as error:
            self.close()
            raise unavailable(error) from error

    @property
    def is_open(self) -> bool:
        return self.connection._sock is not None

    def close(self) -> None:
        self._origins = None
        self.connection.disconnect()
