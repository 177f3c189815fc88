"""A stand-in for AI providers on this machine: it speaks as OpenAI, Anthropic, Google and Perplexity do, streamed.

It answers with the prompt's words or what the next of ``scripts`` says, counts tokens, refuses parameters that a model
does not take, and misbehaves as told (``faults``). With ``rpm`` its OpenAI limits requests a minute for each key.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import defaultdict, deque
from types import ModuleType
from typing import Any, NamedTuple

from examples.ai import media
from examples.ai.batches import Batches
from examples.ai.script import Script, said
from examples.ai.speaks import anthropic, google, openai_chat, openai_responses, perplexity

__all__ = ["Fault", "Provider", "Script"]


class Fault(NamedTuple):
    """What befalls one request.

    Parameters:
      kind: ``status``: a refusal. ``hang``: no answer. ``cut``: an answer that ends half way, ``broken``: whose
        connection breaks there, ``error``: with an error amid it, ``failed``: the same in the Responses API's other
        way. ``malformed``: no JSON. ``refuse``: the content is refused. ``headers``: a right answer with these.
      word: of the error, in the protocol's own words, e.g. ``overloaded_error``.
    """

    kind: str
    status: int = 500
    headers: tuple[tuple[str, str], ...] = ()
    word: str = ""


_REFUSALS = {openai_chat: Script(pieces=(), finish="content_filter"), anthropic: Script(pieces=(), refusal="no")}
_REFUSALS |= {google: Script(refusal="no"), openai_responses: Script(pieces=(), finish="content_filter")}
_REFUSALS |= {perplexity: Script(pieces=(), finish="content_filter")}


class Provider:
    """The server, in a thread of its own; use as a context manager."""

    def __init__(self, *, latency_seconds: float = 0.0, rpm: int = 0, port: int = 0) -> None:
        self.latency_seconds = latency_seconds
        self.rpm = rpm
        self.port = port
        self.faults: deque[Fault] = deque()
        self.batches = Batches()
        self.scripts: deque[Script] = deque()
        self.requests: list[dict[str, Any]] = []
        self.answered = 0
        self.limited = 0
        self._times: dict[str, deque[float]] = defaultdict(deque)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_urls(self) -> dict[str, str]:
        """What to give to Fourlane as ``base_urls``."""
        like_openai = dict.fromkeys(("openai", "openrouter"), f"{self.url}/v1")
        return like_openai | {"anthropic": self.url, "google": self.url, "perplexity": f"{self.url}/perplexity"}

    def __enter__(self) -> Provider:
        self._thread = threading.Thread(target=self._run, name="ai-provider", daemon=True)
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        if self._thread is not None:
            self._thread.join(5)

    def _stop(self) -> None:
        for serving in asyncio.all_tasks(self._loop):
            serving.cancel()
        self._loop.call_soon(self._loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(asyncio.sleep(0))  # the cancelled ones close their sockets
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except asyncio.LimitOverrunError:
            return False
        path = head[0].split(" ")[1]
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:]) if k}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        key = headers.get("authorization") or headers.get("x-api-key") or headers.get("x-goog-api-key") or ""
        if told := self.batches.answer(head[0], headers, body):
            _send_raw(writer, *told)
            await writer.drain()
            return True
        asked = json.loads(body) if body[:1] == b"{" else {}
        self.requests.append({"path": path, "headers": headers, "body": asked, "at": time.monotonic()})
        speaks = _protocol(path)
        if path.endswith(("completions", "responses")) and (wait := self._over_limit(key)):
            self.limited += 1
            _send(writer, 429, speaks.error(429, "too many requests"), (("retry-after", f"{wait:.2f}"),))
            return True
        fault = self.faults.popleft() if self.faults else Fault("")
        if fault.kind == "status":
            _send(
                writer, fault.status, speaks.error(fault.status, f"planned {fault.status}", fault.word), fault.headers
            )
            return True
        if fault.kind == "hang":
            await asyncio.sleep(3600)
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        if fault.kind == "malformed":
            _send_raw(writer, 200, b"data: {not json\n\n", "text/event-stream")
            return False
        if made := media.make(path, asked, body):
            _send_raw(writer, made.status, made.body, made.media_type)
        elif refused := speaks.refused(asked, path):
            _send(writer, 400, speaks.error(400, refused.message, refused.code or "", refused.param))
            return True
        else:
            await self._stream(writer, speaks, speaks.read(asked, path), fault)
        self.answered += 1
        await writer.drain()
        return fault.kind not in ("cut", "broken")

    async def _stream(self, writer: asyncio.StreamWriter, speaks: ModuleType, asked: Any, fault: Fault) -> None:
        script = self.scripts.popleft() if self.scripts else Script()
        events = speaks.say(said(asked, _REFUSALS[speaks] if fault.kind == "refuse" else script))
        if fault.kind in ("cut", "broken", "error", "failed"):
            events = events[: len(events) // 2]
        if fault.kind in ("error", "failed"):
            events.append(getattr(speaks, "broken" if fault.kind == "error" else "failed")(fault.word))
        # A body without length ends with its connection, one in chunks by a last chunk that is empty.
        chunked = fault.kind != "cut"
        head = "HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\n"
        head += "transfer-encoding: chunked\r\n" if chunked else "connection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fault.headers)
        writer.write(head.encode() + b"\r\n")
        for part in events if script.pause_seconds else ["".join(events)]:
            if script.pause_seconds:
                await asyncio.sleep(script.pause_seconds)
            data = part.encode()
            writer.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            await writer.drain()
        if chunked and fault.kind != "broken":
            writer.write(b"0\r\n\r\n")

    def _over_limit(self, key: str) -> float:
        if not self.rpm:
            return 0.0
        now, times = time.monotonic(), self._times[key]
        while times and now - times[0] >= 60:
            times.popleft()
        if len(times) >= self.rpm:
            return times[0] + 60 - now
        times.append(now)
        return 0.0


def _protocol(path: str) -> ModuleType:
    if "enerateContent" in path:
        return google
    if path.endswith("/messages"):
        return anthropic
    if path.endswith("/responses"):
        return perplexity if path.startswith("/perplexity") else openai_responses
    return openai_chat


def _send(writer: asyncio.StreamWriter, status: int, data: Any, headers: tuple[tuple[str, str], ...] = ()) -> None:
    _send_raw(writer, status, json.dumps(data).encode(), "application/json", headers)


def _send_raw(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    kind: str,
    headers: tuple[tuple[str, str], ...] = (),
) -> None:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers)
    writer.write(head.encode() + b"\r\n" + body)
