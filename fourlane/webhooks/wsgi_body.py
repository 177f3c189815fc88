"""Reads a body from a WSGI server: bounded in bytes, and in time as far as the server lets us.

A WSGI server's stream waits as long as it likes for the next piece. gunicorn shows us the connection, so its reading
can be ended from outside; with other servers the clock is looked at between pieces, and the server, or the proxy before
it, must know how long one may take. A body that we do not want is ended likewise: gunicorn would have a thread read it
to its end.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from fourlane.errors import FourlaneError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Broken", "leave", "read"]

_PIECE: Final = 65_536


class Broken(FourlaneError):
    """The sender left in the middle, or what it sends is no body."""


def read(environ: WSGIEnvironment, length: int | None, most: int, seconds: float) -> bytes:
    """The body; of one that is too large, a byte too many. Raises TimeoutError, Broken.

    Parameters:
      length: as far as the request says. Without it there is none, unless the server knows where a body ends.
    """
    if length is None and not environ.get("wsgi.input_terminated"):
        return b""
    wanted = min(most + 1, most + 1 if length is None else length)
    stream: Any = environ["wsgi.input"]
    end = time.monotonic() + seconds
    body = bytearray()
    with _ended_after(seconds, environ.get("gunicorn.socket")):
        while len(body) < wanted:
            try:
                piece = stream.read(min(_PIECE, wanted - len(body)))
            except Exception as error:  # each server has its own for a chunk that is none
                raise (TimeoutError if time.monotonic() >= end else Broken) from error
            body += piece
            if time.monotonic() >= end and len(body) < wanted:
                raise TimeoutError
            if not piece:
                break
    if length is not None and len(body) < wanted:
        raise Broken
    if len(body) > most:
        leave(environ)
    return bytes(body)


def leave(environ: WSGIEnvironment) -> None:
    """What is not read of the body shall not be."""
    connection = environ.get("gunicorn.socket")
    if connection is not None and (environ.get("CONTENT_LENGTH") or environ.get("HTTP_TRANSFER_ENCODING")):
        _end_reading(connection)


@contextmanager
def _ended_after(seconds: float, connection: socket.socket | None) -> Iterator[None]:
    """Let the connection be at its end, for who reads, after so long."""
    if connection is None:
        yield
        return
    timer = threading.Timer(seconds, _end_reading, (connection,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end_reading(connection: socket.socket) -> None:
    try:
        # The method of the plain socket: that of TLS would take the answer's encryption away, too.
        socket.socket.shutdown(connection, socket.SHUT_RD)
    except OSError:
        pass  # it is closed already
