"""Anthropic's messages."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, Final

from fourlane.providers.ai import outcomes
from fourlane.providers.ai.accounts import Account, streamed
from fourlane.providers.ai.answer import Citation, FailedAnswer
from fourlane.providers.ai.counts import Counts
from fourlane.providers.ai.families import Family, family, nearest
from fourlane.providers.ai.inputs import base64_of, own_turn, turns, with_texts
from fourlane.providers.ai.pieces import Piece
from fourlane.providers.ai.question import ChatMessage, Media, Question, ToolCall, header_of
from fourlane.providers.ai.refusals import send
from fourlane.providers.ai.sse import events
from fourlane.providers.ai.usage import Usage
from fourlane.providers.signals import quota_silence_ms

__all__ = ["body_of", "stream", "usage_of", "whole"]

_CACHED: Final = {"cache_control": {"type": "ephemeral"}}
_CITES: Final = {"type": "citations_delta"}
_THOUGHTS: Final = ("thinking", "redacted_thinking")
_LEAST_BUDGET: Final = 1_024
_SHARES: Final = {"low": 0.2, "medium": 0.5, "high": 0.8}
"""Of ``max_tokens``, that a model thinks with at most which knows no effort."""


async def stream(account: Account, question: Question) -> AsyncGenerator[Piece, None]:
    """The pieces of an answer."""
    body = body_of(account.provider, question, family(account.provider, question.model))
    response = await send(
        account,
        question,
        body,
        lambda body, key: streamed(account, "/v1/messages", body=body, headers=header_of(key)),
    )
    async with aclosing(response):
        yield Piece(silence_ms=quota_silence_ms(response.headers))
        reading = _ClaudeAnswer(account.provider, question.model)
        async with aclosing(events(response)) as told:
            async for event in told:
                piece = reading.piece(event)
                if piece is not None:
                    yield piece


def whole(provider: str, model: str, message: dict[str, Any]) -> Iterator[Piece]:
    """The pieces of an answer that came at once: read as if it were streamed."""
    reading = _ClaudeAnswer(provider, model)
    for event in _events_of(message):
        piece = reading.piece(event)
        if piece is not None:
            yield piece


def _events_of(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"type": "message_start", "message": message}
    for index, block in enumerate(message.get("content") or ()):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        for citation in block.get("citations") or ():
            yield {"type": "content_block_delta", "index": index, "delta": _CITES | {"citation": citation}}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": message, "usage": message.get("usage")}


def body_of(provider: str, question: Question, takes: Family) -> dict[str, Any]:
    """The request."""
    messages = [_turn(provider, question.model, of_model, turn) for of_model, turn in turns(question.messages)]
    body: dict[str, Any] = {"model": question.model, "max_tokens": question.max_tokens, "messages": messages}
    body |= {"stream": True} | _thinking(question, takes)
    if question.system:
        body["system"] = [{"type": "text", "text": question.system}] if question.cache else question.system
    if question.temperature is not None and takes.samples and "thinking" not in body:
        body["temperature"] = min(question.temperature, 1.0)
    if question.stop:
        body["stop_sequences"] = list(question.stop)
    if question.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
            for tool in question.tools
        ]
        if question.must_call and takes.forced:
            body["tool_choice"] = {"type": "any"}
    if question.schema is not None:
        body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": _schema(question)}
    if question.cache:
        _mark(body)
    return body


def _thinking(question: Question, takes: Family) -> dict[str, Any]:
    """How much it shall think. Its thoughts are asked for where it thinks: they are signs of life."""
    forced = question.must_call and bool(question.tools) and takes.forced  # no model thinks then
    effort = nearest(question.effort, takes.efforts) if question.effort else None
    if takes.thinking == "budget":
        budget = int(question.max_tokens * _SHARES.get(effort or "", 0))
        if forced or question.effort == "none" or not _LEAST_BUDGET <= budget < question.max_tokens:
            return {}
        return {"thinking": {"type": "enabled", "budget_tokens": budget}}
    if not takes.efforts:
        return {}
    off = forced or question.effort in ("none", "minimal")
    if off and takes.thinking != "always":
        return {"thinking": {"type": "disabled"}} if takes.reasons else {}
    told: dict[str, Any] = {"output_config": {"effort": effort}} if effort else {}
    if takes.reasons or effort:
        told["thinking"] = {"type": "adaptive", "display": "summarized"}
    return told


def _schema(question: Question) -> dict[str, Any]:
    from anthropic import transform_schema

    try:
        return transform_schema(dict(question.schema or {}))
    except (ValueError, TypeError):  # a word that its own SDK does not know; the provider may
        return dict(question.schema or {})


def _mark(body: dict[str, Any]) -> None:
    """Cache what stands at the beginning: the system's words with the tools, then all but the last turn."""
    if "system" in body:
        body["system"][-1] |= _CACHED
    elif body.get("tools"):
        body["tools"][-1] |= _CACHED
    if len(body["messages"]) > 1:
        body["messages"][-2]["content"][-1] |= _CACHED


def _turn(provider: str, model: str, of_model: bool, turn: list[ChatMessage]) -> dict[str, Any]:
    blocks = [block for message in turn for block in _blocks(provider, model, message)]
    return {"role": "assistant" if of_model else "user", "content": blocks}


def _blocks(provider: str, model: str, message: ChatMessage) -> Iterator[dict[str, Any]]:
    if message.role == "tool":
        yield {"type": "tool_result", "tool_use_id": message.call_id, "content": message.text}
        return
    if own := own_turn(message, provider, model):
        yield from (dict(block) for block in own)
        return
    text, media = with_texts(message)
    yield from (_part(one) for one in media)
    if text:
        yield {"type": "text", "text": text}
    for call in message.calls:
        yield {"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments or "{}")}


def _part(media: Media) -> dict[str, Any]:
    source = {"type": "base64", "media_type": media.media_type, "data": base64_of(media)}
    if media.media_type.startswith("image/"):
        return {"type": "image", "source": source}
    title = {"title": media.name} if media.name else {}
    return {"type": "document", "source": source, "citations": {"enabled": True}} | title


class _ClaudeAnswer:
    """One answer as it is read, block by block."""

    def __init__(self, provider: str, model: str) -> None:
        self._of = {"provider": provider, "model": model}
        self._used: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._parts: dict[int, list[str]] = {}

    def piece(self, event: dict[str, Any]) -> Piece | None:
        """What an event says. Raises FailedAnswer."""
        kind = event.get("type")
        if kind == "content_block_delta":
            return self._delta(event.get("index") or 0, event.get("delta") or {})
        if kind == "content_block_start":
            self._blocks[event.get("index") or 0] = dict(event.get("content_block") or {})
            return Piece(text=(event.get("content_block") or {}).get("text") or "")
        if kind == "content_block_stop":
            self._close(event.get("index") or 0)
            return None
        if kind == "ping":
            # It keeps the connection while the model thinks.
            return Piece(alive=True) if next(reversed(self._blocks.values()), {}).get("type") in _THOUGHTS else None
        if kind == "message_start":
            return Piece(usage=self._usage((event.get("message") or {}).get("usage")))
        if kind == "message_delta":
            finish = (event.get("delta") or {}).get("stop_reason") or ""
            usage = self._usage(event.get("usage"))
            return Piece(usage=usage, finish=finish, outcome=outcomes.ANTHROPIC.get(finish), **self._whole())
        if kind == "error":
            told = event.get("error") or {}
            word = str(told.get("type") or "error")
            raise FailedAnswer(f"the answer failed: {word}: {told.get('message') or ''}", word)
        return None

    def _delta(self, index: int, delta: dict[str, Any]) -> Piece:
        parts = self._parts.setdefault(index, [])
        match delta.get("type"):
            case "text_delta":
                text = delta.get("text") or ""
                parts.append(text)
                return Piece(text=text, alive=True)
            case "thinking_delta":
                parts.append(delta.get("thinking") or "")
            case "input_json_delta":
                parts.append(delta.get("partial_json") or "")
            case "signature_delta":
                self._blocks.setdefault(index, {})["signature"] = delta.get("signature")
            case "citations_delta":
                return Piece(alive=True, citations=(_citation(delta.get("citation") or {}),))
        return Piece(alive=True)

    def _close(self, index: int) -> None:
        block, text = self._blocks.get(index, {}), "".join(self._parts.get(index, ()))
        match block.get("type"):
            case "text" | "thinking" as kind:
                block[kind] = (block.get(kind) or "") + text
            case "tool_use":
                block["arguments"] = text or json.dumps(block.get("input") or {})

    def _whole(self) -> dict[str, Any]:
        # A call that was cut off is none: its provider would wait for what came of it.
        whole = (block for block in self._blocks.values() if block.get("type") != "tool_use" or "arguments" in block)
        blocks = [dict(block) for block in whole]
        calls = []
        for block in blocks:
            if block.get("type") == "tool_use":
                arguments = block.pop("arguments")
                calls.append(ToolCall(id=block.get("id") or "", name=block.get("name") or "", arguments=arguments))
                block["input"] = _json_object(arguments)
        own = any(block.get("type") != "text" for block in blocks)
        return {"calls": tuple(calls), "raw": self._of | {"content": blocks} if own else None}

    def _usage(self, told: dict[str, Any] | None) -> Usage | None:
        # Of what is counted up the later word holds; what it leaves out stays.
        self._used |= {name: value for name, value in (told or {}).items() if value is not None}
        return usage_of(self._used) if self._used else None


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _citation(told: dict[str, Any]) -> Citation:
    return Citation(
        url=told.get("url") or told.get("source") or "",
        title=told.get("title") or told.get("document_title") or "",
        quote=told.get("cited_text") or "",
    )


def usage_of(told: Any) -> Usage:
    """What it says that the call took; its count of the input leaves out what the cache held."""
    said = Counts(told)
    read, written = said.of("cache_read_input_tokens"), said.of("cache_creation_input_tokens")
    return Usage(
        input_tokens=said.of("input_tokens") + read + written,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=said.part("cache_creation").of("ephemeral_1h_input_tokens"),
        output_tokens=said.of("output_tokens"),
        reasoning_tokens=said.part("output_tokens_details").of("thinking_tokens"),
        searches=said.part("server_tool_use").of("web_search_requests"),
    )
