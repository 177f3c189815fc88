"""A TCP proxy that breaks connections on demand, to see how clients reconnect."""

from __future__ import annotations

import asyncio
import enum
import random
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from tests.servers import PATIENCE_SECONDS

__all__ = ["FaultyProxy"]

T = TypeVar("T")

CHUNK_BYTES = 65536


class FaultyProxy:
    """Listens on ``port`` of 127.0.0.1 and forwards to a server, until told to misbehave.

    It works from the moment it is made, in a thread of its own; use it as a context manager, or close it.
    Each method returns once the fault is in force.

        with FaultyProxy("127.0.0.1", server.port) as proxy:
            client = redis.Redis.from_url(proxy.url(server.url))
            proxy.cut()
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self._links: set[_Link] = set()
        self._silent: frozenset[_Way] = frozenset()
        self._delay_seconds = 0.0
        self._armed: bytes | None = None
        self._then: Callable[[], object] | None = None
        self._dropped = threading.Event()
        self._share = 0.0
        self._random = random.Random()
        self._to_hold: bytes | None = None
        self._held: tuple[_Link, bytes] | None = None
        self._answered = threading.Event()
        self.lost_replies = 0
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-proxy", daemon=True)
        self._thread.start()
        self.host = "127.0.0.1"
        self.port = 0  # the system chooses one at first, refuse() and accept() keep it
        self._run(self._listen())

    def url(self, server_url: str) -> str:
        """``server_url``, but by way of this proxy."""
        parts = urlsplit(server_url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}{self.host}:{self.port}"))

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return self._call(lambda: len(self._links))

    def cut(self) -> None:
        """Reset all connections; new ones are served."""
        self._call(self._abort_all)

    def refuse(self) -> None:
        """Refuse new connections; those that exist go on."""
        self._call(self._stop_listening)

    def accept(self) -> None:
        """Accept new connections again, after :meth:`refuse`."""
        self._run(self._listen())

    def blackhole(self, *, requests: bool = True, replies: bool = True) -> None:
        """Keep and accept connections, but swallow all that is sent, one way or both: a half-open network."""
        silent = [way for way, wanted in ((_Way.REQUESTS, requests), (_Way.REPLIES, replies)) if wanted]
        self._call(lambda: self._set_silent(frozenset(silent)))

    def delay(self, seconds: float) -> None:
        """Hold back each thing that is sent, both ways, for so long."""
        self._call(lambda: self._set_delay(seconds))

    def strand(self) -> None:
        """Make the present connections half open for good, as when a router forgets them; serve new ones."""
        self._call(self._strand_all)

    def retarget(self, port: int) -> None:
        """Connect new clients to another server on this machine."""
        self._call(lambda: self._set_target(port))

    def drop_next_reply(self, containing: bytes = b"", *, then: Callable[[], object] | None = None) -> None:
        """Forward the next request (that has ``containing`` in it), swallow its reply, reset its connection.

        The server has then done what it was asked, and the client cannot know.
        Await it by :meth:`wait_dropped`. ``then`` is called before the reset, in the proxy's thread.
        """
        self._dropped.clear()
        self._call(lambda: self._arm(containing, then))

    def drop_replies(self, share: float, seed: int) -> None:
        """Swallow this share of all replies, and reset the connections that they were for."""
        self._call(lambda: self._drop_share(share, seed))

    def hold_next_request(self, containing: bytes = b"") -> None:
        """Keep the next request (that has ``containing`` in it) back, and reset its connection.

        The server gets it when :meth:`deliver_held` is called: as late as a network may bring it.
        """
        self._answered.clear()
        self._call(lambda: self._hold(containing))

    def deliver_held(self, timeout: float = PATIENCE_SECONDS) -> None:
        """Give the server what was held back, and wait until it has answered."""
        self._call(self._deliver)
        assert self._answered.wait(timeout), "the server did not answer"

    def wait_dropped(self, timeout: float = PATIENCE_SECONDS) -> None:
        """Wait until :meth:`drop_next_reply` has happened; AssertionError after ``timeout`` seconds."""
        assert self._dropped.wait(timeout), f"no reply was dropped within {timeout:g} s"

    def heal(self) -> None:
        """Behave again, at full speed. Connections that lost data in a black hole are reset: they carry garbage."""
        self._call(self._heal)
        self.accept()

    def close(self) -> None:
        """Stop listening, reset all connections and end the thread."""
        if self._loop.is_closed():
            return
        self._run(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> FaultyProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # All below runs in the proxy's thread, but for these two, which get it there.

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    def _call(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            result = function()
            await asyncio.sleep(0)  # asyncio closes aborted sockets one turn of its loop later
            return result

        return self._run(call())

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, self.host, self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _set_silent(self, silent: frozenset[_Way]) -> None:
        self._silent = silent

    def _set_delay(self, seconds: float) -> None:
        self._delay_seconds = seconds

    def _arm(self, containing: bytes, then: Callable[[], object] | None) -> None:
        self._armed, self._then = containing, then

    def _drop_share(self, share: float, seed: int) -> None:
        self._share, self._random = share, random.Random(seed)

    def _hold(self, containing: bytes) -> None:
        self._to_hold = containing

    def _deliver(self) -> None:
        assert self._held is not None, "no request was held back"
        link, data = self._held
        link.writers[1].write(data)

    def _abort_all(self) -> None:
        for link in self._links:
            link.abort()

    def _strand_all(self) -> None:
        for link in self._links:
            link.stranded = True

    def _set_target(self, port: int) -> None:
        self._target = (self._target[0], port)

    def _heal(self) -> None:
        self._silent = frozenset()
        self._delay_seconds = 0.0
        self._armed = None
        self._share = 0.0
        for link in self._links:
            if link.garbled:
                link.abort()

    async def _shut_down(self) -> None:
        self._stop_listening()
        self._abort_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        try:
            if self._silent == frozenset(_Way):
                await self._swallow(reader, link)
            else:
                await self._forward(reader, writer, link)
        except (OSError, asyncio.CancelledError):
            pass  # the server is down, one side hung up, or we are closing: the same to the client
        finally:
            self._links.discard(link)
            link.abort()

    async def _swallow(self, reader: asyncio.StreamReader, link: _Link) -> None:
        link.garbled = True
        while await reader.read(CHUNK_BYTES):
            pass

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        link.writers.append(server_writer)
        await asyncio.gather(
            self._pump(reader, server_writer, link, request=True),
            self._pump(server_reader, writer, link, request=False),
        )

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, link: _Link, *, request: bool
    ) -> None:
        """Carry what one side says to the other, until it has no more to say."""
        way = _Way.REQUESTS if request else _Way.REPLIES
        while data := await source.read(CHUNK_BYTES):
            if self._delay_seconds:
                await asyncio.sleep(self._delay_seconds)
            if self._swallows(link, way):
                link.garbled = True
                continue
            if request and self._to_hold is not None and self._to_hold in data:
                self._to_hold, self._held = None, (link, data)
                link.writers[0].transport.abort()
                continue
            if self._held is not None and self._held[0] is link and not request:
                self._answered.set()
                link.abort()
                return
            if request and self._armed is not None and self._armed in data:
                self._armed = None
                link.reply_unwanted = True
            elif not request and (link.reply_unwanted or self._random.random() < self._share):
                self.lost_replies += 1
                if self._then is not None and link.reply_unwanted:
                    self._then()
                self._dropped.set()
                link.abort()
                return
            sink.write(data)
            await sink.drain()
        if self._held is not None and self._held[0] is link:
            return  # the server is to hear no end of it yet
        if self._swallows(link, way) and not request:
            link.garbled = True  # nor does the client learn, in a black hole, that the server hung up
        else:
            link.abort()  # half a connection is of no use to Redis: one side's end is the end of both

    def _swallows(self, link: _Link, way: _Way) -> bool:
        return way in self._silent or link.stranded


class _Way(enum.Enum):
    REQUESTS = enum.auto()
    REPLIES = enum.auto()


class _Link:
    """One client's connection, and ours to the server for it."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.writers = [client]
        self.garbled = False
        self.stranded = False
        self.reply_unwanted = False

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
