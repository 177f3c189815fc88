"""A stand-in for AI providers on this machine: it speaks as OpenAI, Anthropic and Google do, streamed.

It answers with the prompt's words, counts tokens, and misbehaves as told (``faults``): a status with headers, a hang,
a cut stream, malformed JSON, refused content. With ``rpm`` its OpenAI limits requests a minute for each key.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import defaultdict, deque
from typing import Any, NamedTuple

__all__ = ["Fault", "Provider"]


class Fault(NamedTuple):
    """What befalls one request.

    Parameters:
      kind: ``status``, ``hang``, ``cut``, ``malformed``, ``refuse``, or ``headers``: a right answer with these.
    """

    kind: str
    status: int = 500
    headers: tuple[tuple[str, str], ...] = ()


class Provider:
    """The server, in a thread of its own; use as a context manager."""

    def __init__(self, *, latency_seconds: float = 0.0, rpm: int = 0, port: int = 0) -> None:
        self.latency_seconds = latency_seconds
        self.rpm = rpm
        self.port = port
        self.faults: deque[Fault] = deque()
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
        like_openai = dict.fromkeys(("openai", "perplexity", "openrouter"), f"{self.url}/v1")
        return like_openai | {"anthropic": self.url, "google": self.url}

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
        asked = json.loads(body) if body[:1] == b"{" else {}
        self.requests.append({"path": path, "headers": headers, "body": asked, "at": time.monotonic()})
        if "completions" in path and (wait := self._over_limit(key)):
            self.limited += 1
            _send(writer, 429, {"error": {"message": "too many requests"}}, (("retry-after", f"{wait:.2f}"),))
            return True
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and fault.kind == "status":
            _send(writer, fault.status, {"error": {"message": f"planned {fault.status}"}}, fault.headers)
            return True
        if fault is not None and fault.kind == "hang":
            await asyncio.sleep(3600)
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        if fault is not None and fault.kind == "malformed":
            _send_raw(writer, 200, b"data: {not json\n\n", "text/event-stream")
            return False
        if "images" in path:
            _send(writer, 200, {"created": 1, "data": [{"url": f"{self.url}/image.png"}]})
        elif "transcriptions" in path:
            _send(writer, 200, {"text": "spoken words", "duration": 30.0, "language": "en"})
        else:
            events = _events(path, asked, fault.kind if fault is not None else "")
            headers = fault.headers if fault is not None and fault.kind == "headers" else ()
            _send_raw(writer, 200, "".join(events).encode(), "text/event-stream", headers, close=True)
        self.answered += 1
        await writer.drain()
        return "images" in path or "transcriptions" in path

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


def _events(path: str, asked: dict[str, Any], fault: str) -> list[str]:
    if "generateContent" in path or "streamGenerateContent" in path:
        prompt = asked["contents"][-1]["parts"][0]["text"]
        events = _google(prompt, fault)
    elif path.endswith("/messages"):
        events = _anthropic(_text_of(asked), fault)
    else:
        events = _openai(_text_of(asked), fault)
    return events[: len(events) // 2] if fault == "cut" else events


def _text_of(asked: dict[str, Any]) -> str:
    content = asked["messages"][-1]["content"]
    return content if isinstance(content, str) else content[0]["text"]


def _words(prompt: str) -> list[str]:
    return [word + " " for word in f"You said: {prompt[:400]}".split()]


def _openai(prompt: str, fault: str) -> list[str]:
    def chunk(delta: dict[str, Any], finish: str | None = None, usage: Any = None, choices: bool = True) -> str:
        choice = [{"index": 0, "delta": delta, "finish_reason": finish}] if choices else []
        data = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choice}
        return f"data: {json.dumps(data | {'usage': usage})}\n\n"

    words = _words(prompt)
    if fault == "refuse":
        words = []
    usage = {"prompt_tokens": len(prompt) // 4 + 1, "completion_tokens": len(words)}
    usage["total_tokens"] = sum(usage.values())
    end = "content_filter" if fault == "refuse" else "stop"
    said = [chunk({"role": "assistant", "content": word}) for word in words]
    return [*said, chunk({}, end), chunk({}, usage=usage, choices=False), "data: [DONE]\n\n"]


def _anthropic(prompt: str, fault: str) -> list[str]:
    def event(kind: str, **data: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind} | data)}\n\n"

    words = _words(prompt)
    usage = {"input_tokens": len(prompt) // 4 + 1, "output_tokens": 1}
    message = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    message |= {"stop_reason": None, "stop_sequence": None}
    end = "refusal" if fault == "refuse" else "end_turn"
    return [
        event("message_start", message=message),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *(event("content_block_delta", index=0, delta={"type": "text_delta", "text": word}) for word in words),
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": end, "stop_sequence": None}, usage={"output_tokens": len(words)}),
        event("message_stop"),
    ]


def _google(prompt: str, fault: str) -> list[str]:
    words = _words(prompt)

    def chunk(text: str, finish: str | None = None) -> str:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        usage = {"promptTokenCount": len(prompt) // 4 + 1, "candidatesTokenCount": len(words)}
        return f"data: {json.dumps({'candidates': [candidate], 'usageMetadata': usage})}\n\n"

    if fault == "refuse":
        return [f"data: {json.dumps({'promptFeedback': {'blockReason': 'SAFETY'}})}\n\n"]
    end = chunk(words[-1], "STOP")
    return [*(chunk(word) for word in words[:-1]), end]


def _send(writer: asyncio.StreamWriter, status: int, data: Any, headers: tuple[tuple[str, str], ...] = ()) -> None:
    _send_raw(writer, status, json.dumps(data).encode(), "application/json", headers)


def _send_raw(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    kind: str,
    headers: tuple[tuple[str, str], ...] = (),
    close: bool = False,
) -> None:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n"
    head += "connection: close\r\n" if close else f"content-length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers)
    writer.write(head.encode() + b"\r\n" + body)
