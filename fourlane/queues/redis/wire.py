"""A connection to the one server of a URL: its socket, its greeting, and RESP by hiredis.

redis-py is not loaded for it: that takes a program of ours 15 MB and a tenth of a second. Options and errors are as
there.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import hiredis

from fourlane.queues.redis import failures
from fourlane.readable import readable

if TYPE_CHECKING:
    import ssl

__all__ = ["Server", "Wire"]

_READ_BYTES: Final = 32_768
_CLOSED: Final = "Connection closed by server."
_KEEPALIVE_SECONDS: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}  # some systems lack some


class _More:
    """There is not a whole reply yet."""


class Server:
    """Where one server is, and how it is spoken to.

    Parameters:
      url: redis://, rediss:// or unix://, without options.
      options: those of redis-py's connections, checked (url.py).
    """

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        """Raises ValueError: no host or port can be read from it."""
        parts = urlsplit(url)
        self.options = options
        self.path = unquote(parts.path) if parts.scheme == "unix" else ""
        self.is_tls = parts.scheme == "rediss"
        self.host = unquote(parts.hostname or "") or "localhost"
        self.port = parts.port or 6379
        in_path = "" if self.path else parts.path.strip("/")
        self.database = int(in_path or options.get("db") or 0)
        self.user = unquote(parts.username) if parts.username else options.get("username")
        self.password = unquote(parts.password) if parts.password else options.get("password")

    @property
    def address(self) -> str:
        """Scheme, host, port and database; never a user or a password."""
        if self.path:
            return f"unix://{self.path}?db={self.database}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.is_tls else 'redis'}://{host}:{self.port}/{self.database}"

    @property
    def place(self) -> str:
        """As errors name it."""
        return self.path or f"{self.host}:{self.port}"

    def open_socket(self, connect_seconds: float, answer_seconds: float) -> socket.socket:
        """Raises OSError."""
        if self.path:
            return _connected(socket.AF_UNIX, 0, self.path, connect_seconds, answer_seconds)
        fault: OSError | None = None
        for family, _, number, _, place in socket.getaddrinfo(self.host, self.port, 0, socket.SOCK_STREAM):
            try:
                opened = _connected(family, number, place, connect_seconds, answer_seconds, self._tune)
            except OSError as error:
                fault = error
                continue
            if not self.is_tls:
                return opened
            try:
                return self._context().wrap_socket(opened, server_hostname=self.host)
            except BaseException:
                opened.close()
                raise
        raise fault or OSError("socket.getaddrinfo returned an empty list")

    def _tune(self, opened: socket.socket) -> None:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.options.get("socket_keepalive", True):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, number in _KEEPALIVE_SECONDS.items():
                if hasattr(socket, name):
                    opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), number)

    def _context(self) -> ssl.SSLContext:
        """Anew each time: a certificate may have been renewed."""
        import ssl

        given = {name.removeprefix("ssl_"): value for name, value in self.options.items() if name.startswith("ssl_")}
        asks = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
        verify = asks[given.get("cert_reqs", "required")]
        context = ssl.create_default_context()
        context.check_hostname = given.get("check_hostname", True) and verify != ssl.CERT_NONE
        context.verify_mode = verify
        for flag in given.get("include_verify_flags", ()):
            context.verify_flags |= flag
        for flag in given.get("exclude_verify_flags", ()):
            context.verify_flags &= ~flag
        if given.get("certfile") or given.get("keyfile"):
            context.load_cert_chain(given.get("certfile") or "", given.get("keyfile"), given.get("password"))
        authorities = given.get("ca_certs"), given.get("ca_path"), given.get("ca_data")
        if any(authority is not None for authority in authorities):
            context.load_verify_locations(*authorities)
        if "min_version" in given:
            context.minimum_version = given["min_version"]
        if given.get("ciphers"):
            context.set_ciphers(given["ciphers"])
        return context

    def greeting(self) -> list[tuple[Any, ...]]:
        """What is said first."""
        credentials = (self.user or "default", self.password or "") if self.user or self.password else ()
        words: list[tuple[Any, ...]] = []
        if self.options.get("protocol", 3) == 3:
            words.append(("HELLO", 3, *(("AUTH", *credentials) if credentials else ())))
        elif credentials:
            words.append(("AUTH", *(credentials if self.user else credentials[1:])))
        if self.options.get("client_name"):
            words.append(("CLIENT", "SETNAME", self.options["client_name"]))
        if self.database:
            words.append(("SELECT", self.database))
        return words


def _connected(
    family: int, number: int, place: Any, connect_seconds: float, answer_seconds: float, tune: Any = None
) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM, number)
    try:
        if tune is not None:
            tune(opened)
        opened.settimeout(connect_seconds)
        opened.connect(place)
        opened.settimeout(answer_seconds)
    except BaseException:
        opened.close()
        raise
    return opened


class Wire:
    """One connection, opened by `connect`, as redis-py's connections are. Whatever goes wrong is one of failures.py.

    Parameters:
      most_seconds: to connect, and for each reply; the server's own options may say less.
    """

    def __init__(self, server: Server, most_seconds: float) -> None:
        self.server = server
        self.socket_timeout = min(server.options.get("socket_timeout", most_seconds), most_seconds)
        self._connect_seconds = min(server.options.get("socket_connect_timeout", most_seconds), most_seconds)
        self._sock: socket.socket | None = None
        self._reader: Any = None
        self._buffer = bytearray()
        self._pid = 0

    def connect(self) -> None:
        """Do nothing when it is connected."""
        if self._sock is not None:
            return
        try:
            self._sock = self.server.open_socket(self._connect_seconds, self.socket_timeout)
        except TimeoutError as error:
            raise failures.TimeoutError("Timeout connecting to server", below=error) from error
        except OSError as error:
            raise failures.ConnectionError(self._why(error), below=error) from error
        self._pid = os.getpid()
        self._buffer = bytearray(self.server.options.get("socket_read_size", _READ_BYTES))
        self._reader = hiredis.Reader(
            protocolError=failures.InvalidResponse, replyError=failures.answered, notEnoughData=_More
        )
        try:
            for words in self.server.greeting():
                self.send_packed_command([hiredis.pack_command(words)])
                self.read_response()
        except BaseException:
            self.disconnect()
            raise

    def _why(self, error: OSError) -> str:
        number, text = (*error.args, "", "")[:2]
        said = f" {number}" if number != "" else ""
        return f"Error{said} connecting to {self.server.place}." + (f" {text}." if text else "")

    def send_packed_command(self, pieces: Sequence[bytes], check_health: bool = False) -> None:
        opened = self._sock
        if opened is None:
            raise failures.ConnectionError(_CLOSED)
        try:
            for piece in pieces:
                opened.sendall(piece)
        except TimeoutError as error:
            self.disconnect()
            raise failures.TimeoutError("Timeout writing to socket", below=error) from error
        except OSError as error:
            self.disconnect()
            number, text = error.args if len(error.args) == 2 else ("UNKNOWN", error)
            raise failures.ConnectionError(f"Error {number} while writing to socket. {text}.", below=error) from error

    def read_response(self) -> Any:
        """One reply. What the server tells unasked is passed over."""
        reader = self._reader
        if reader is None:
            raise failures.ConnectionError(_CLOSED)
        reply = reader.gets()
        while reply is _More or type(reply) is hiredis.PushNotification:
            if reply is _More:
                self._fill()
            reply = reader.gets()
        if isinstance(reply, failures.RedisError):
            raise reply
        return reply

    def _fill(self) -> None:
        if self._sock is None:
            raise failures.ConnectionError(_CLOSED)
        try:
            number = self._sock.recv_into(self._buffer)
        except TimeoutError as error:
            raise failures.TimeoutError("Timeout reading from socket", below=error) from error
        except OSError as error:
            text = f"Error while reading from {self.server.place} : {error.args}"
            raise failures.ConnectionError(text, below=error) from error
        if not number:
            raise failures.ConnectionError(_CLOSED)
        self._reader.feed(self._buffer, 0, number)

    def can_read(self, within_seconds: float) -> bool:
        """Whether something lies here unread, or comes within this time."""
        if self._sock is None or self._reader is None:
            raise failures.ConnectionError(_CLOSED)
        pending = getattr(self._sock, "pending", None)  # of TLS: what is decrypted already
        if self._reader.has_data() or (pending is not None and pending()):
            return True
        if not readable([self._sock.fileno()], within_seconds):
            return False
        if pending is None and not self._sock.recv(1, socket.MSG_PEEK):
            raise failures.ConnectionError(_CLOSED)
        return True

    def disconnect(self) -> None:
        opened, self._sock, self._reader = self._sock, None, None
        if opened is None:
            return
        if os.getpid() == self._pid:  # a fork's parent goes on to use it
            try:
                opened.shutdown(socket.SHUT_RDWR)
            except (OSError, ValueError):
                pass
        try:
            opened.close()
        except OSError:
            pass

    def __del__(self) -> None:
        self.disconnect()
