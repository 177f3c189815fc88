"""OpenAI's Responses API, whose form Perplexity's Agent API has too."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Final

from fourlane.providers.ai import outcomes, perplexity
from fourlane.providers.ai.accounts import Account, streamed
from fourlane.providers.ai.answer import Citation, FailedAnswer
from fourlane.providers.ai.counts import Counts
from fourlane.providers.ai.families import Family, family, nearest
from fourlane.providers.ai.inputs import audio_format, base64_of, data_url, own_turn, with_texts
from fourlane.providers.ai.pieces import Piece
from fourlane.providers.ai.question import ChatMessage, Media, Question, ToolCall, header_of
from fourlane.providers.ai.refusals import send
from fourlane.providers.ai.schemas import strict
from fourlane.providers.ai.sse import events
from fourlane.providers.ai.stops import Stops
from fourlane.providers.ai.usage import Usage
from fourlane.providers.signals import quota_silence_ms

__all__ = ["body_of", "cache_key", "stream", "usage_of", "whole"]

_FEWEST_TOKENS: Final = 16


async def stream(account: Account, question: Question) -> AsyncGenerator[Piece, None]:
    """The pieces of an answer."""
    body = body_of(account.provider, question, family(account.provider, question.model))
    response = await send(
        account,
        question,
        body,
        lambda body, key: streamed(account, _path(account), body=body, headers=header_of(key)),
    )
    async with aclosing(response):
        yield Piece(silence_ms=quota_silence_ms(response.headers))
        thinking, stops = False, Stops(question.stop)  # this API takes no stop words
        async with aclosing(events(response)) as told:
            async for event in told:
                kind = event.get("type", "")
                if kind in ("response.output_item.added", "response.output_item.done"):
                    thinking = kind.endswith("added") and (event.get("item") or {}).get("type") == "reasoning"
                elif kind.endswith(".delta"):
                    text = event.get("delta") or "" if kind == "response.output_text.delta" else ""
                    yield Piece(text=stops.before(text), alive=True)
                elif kind in ("response.completed", "response.incomplete", "response.failed", "response.cancelled"):
                    yield Piece(text=stops.rest())
                    yield _end(account.provider, question.model, event.get("response") or {})
                elif kind == "error":
                    raise _failed(event.get("error") or event)
                elif thinking or kind.startswith("response.reasoning"):
                    yield Piece(alive=True)  # it keeps the connection while the model thinks, or searches


def _path(account: Account) -> str:
    """Perplexity's address has no version of its own."""
    versioned = account.provider != "perplexity" or (account.base_url or "").rstrip("/").endswith("/v1")
    return "/responses" if versioned else "/v1/responses"


def whole(provider: str, model: str, response: dict[str, Any]) -> Iterator[Piece]:
    """The pieces of an answer that came at once. Raises FailedAnswer."""
    items = (item for item in response.get("output") or () if item.get("type") == "message")
    parts = (part for item in items for part in item.get("content") or ())
    yield Piece(text="".join(part.get("text") or "" for part in parts if part.get("type") == "output_text"))
    yield _end(provider, model, response)


def body_of(provider: str, question: Question, takes: Family) -> dict[str, Any]:
    """The request."""
    effort = nearest(question.effort, takes.efforts) if question.effort else None
    body: dict[str, Any] = {
        "model": question.model,
        "input": [item for message in question.messages for item in _items(provider, question.model, message)],
        "max_output_tokens": max(question.max_tokens, _FEWEST_TOKENS),
        "stream": True,
        "store": False,
    }
    if question.system:
        body["instructions"] = question.system
    if takes.reasons:
        body["include"] = ["reasoning.encrypted_content"]
    if effort:
        body["reasoning"] = {"effort": effort}
    if question.temperature is not None and (takes.samples is True or (takes.samples and effort == "none")):
        body["temperature"] = question.temperature
    if question.tools:
        body["tools"] = [
            {"type": "function", "name": tool.name, "description": tool.description} | _parameters(tool.parameters)
            for tool in question.tools
        ]
        if question.must_call:
            body["tool_choice"] = "required"
    if question.schema is not None:
        kept = strict(question.schema)
        form = {"type": "json_schema", "name": "answer", "schema": kept or dict(question.schema)}
        body["text"] = {"format": form | {"strict": kept is not None}}
    if question.cache and provider == "openai":
        body["prompt_cache_key"] = cache_key(question)
    return perplexity.agent_body(body) if provider == "perplexity" else body


def cache_key(question: Question) -> str:
    """The same for questions that begin alike, so that they come to the machine that has their beginning."""
    begins = f"{question.model}\0{question.system}\0{[tool.name for tool in question.tools]}"
    return f"fourlane-{hashlib.sha256(begins.encode('utf-8', 'replace')).hexdigest()[:32]}"


def _parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    kept = strict(parameters)
    return {"parameters": kept or dict(parameters), "strict": kept is not None}


def _items(provider: str, model: str, message: ChatMessage) -> Iterator[dict[str, Any]]:
    if message.role == "tool":
        yield {"type": "function_call_output", "call_id": message.call_id, "output": message.text}
    elif message.role == "assistant":
        if own := own_turn(message, provider, model):
            yield from own
            return
        if message.text:
            yield {"role": "assistant", "content": message.text}
        for call in message.calls:
            yield {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
    else:
        text, media = with_texts(message)
        parts = [{"type": "input_text", "text": text}] if text else []
        yield {"role": "user", "content": [*(_part(one) for one in media), *parts] if media else text}


def _part(media: Media) -> dict[str, Any]:
    if media.media_type.startswith("image/"):
        return {"type": "input_image", "image_url": data_url(media), "detail": "auto"}
    if media.media_type.startswith("audio/"):
        return {"type": "input_audio", "input_audio": {"data": base64_of(media), "format": audio_format(media)}}
    return {"type": "input_file", "filename": media.name or "file.pdf", "file_data": data_url(media)}


def _end(provider: str, model: str, response: dict[str, Any]) -> Piece:
    """What the last event says, which has the whole answer."""
    error, output = response.get("error") or {}, [item for item in response.get("output") or () if item]
    searches = sum(item.get("type") in ("web_search_call", "search_results") for item in output)
    usage = usage_of(response.get("usage"), searches)
    if response.get("status") in ("failed", "cancelled"):
        code = str(error.get("code") or response["status"])
        if code not in outcomes.REFUSED_RESPONSES:
            raise _failed(error or {"code": code})
        return Piece(usage=usage, finish=code, outcome="blocked")
    parts = [part for item in output if item.get("type") == "message" for part in item.get("content") or ()]
    finish = (response.get("incomplete_details") or {}).get("reason") or response.get("status") or "completed"
    outcome = outcomes.RESPONSES.get(finish)
    if any(part.get("type") == "refusal" for part in parts):
        finish, outcome = "refusal", "refused"
    return Piece(
        usage=usage,
        finish=finish,
        outcome=outcome,
        calls=tuple(
            ToolCall(id=item.get("call_id") or "", name=item.get("name") or "", arguments=item.get("arguments") or "")
            for item in output
            if item.get("type") == "function_call" and item.get("status") != "incomplete"
        ),
        citations=(*perplexity.sources(output),) or (*_citations(parts),),
        raw={"provider": provider, "model": model, "content": output} if _has_own(provider, output) else None,
    )


def _has_own(provider: str, output: list[dict[str, Any]]) -> bool:
    """Whether there is more than words and calls, for the model to read again. Perplexity takes nothing else back."""
    return provider != "perplexity" and any(item.get("type") != "message" for item in output)


def _citations(parts: list[dict[str, Any]]) -> Iterator[Citation]:
    before = 0
    for part in parts:
        for note in part.get("annotations") or ():
            if note.get("type") == "url_citation":
                start, end = note.get("start_index"), note.get("end_index")
                yield Citation(
                    url=note.get("url") or "",
                    title=note.get("title") or "",
                    start=-1 if start is None else before + start,
                    end=-1 if end is None else before + end,
                )
            elif note.get("type") in ("file_citation", "container_file_citation"):
                yield Citation(title=note.get("filename") or note.get("file_id") or "")
        before += len(part.get("text") or "")


def _failed(error: dict[str, Any]) -> FailedAnswer:
    word = str(error.get("code") or error.get("type") or "error")
    return FailedAnswer(f"the answer failed: {error.get('message') or word}", word)


def usage_of(told: Any, searches: int = 0) -> Usage | None:
    """What it says that the call took."""
    if not told:
        return None
    said = Counts(told)
    read, wrote = said.part("input_tokens_details"), said.part("output_tokens_details")
    return Usage(
        input_tokens=said.of("input_tokens"),
        cache_read_tokens=read.of("cached_tokens"),
        cache_write_tokens=read.of("cache_write_tokens"),
        input_audio_tokens=read.of("audio_tokens"),
        input_image_tokens=read.of("image_tokens"),
        output_tokens=said.of("output_tokens"),
        reasoning_tokens=wrote.of("reasoning_tokens"),
        output_audio_tokens=wrote.of("audio_tokens"),
        searches=searches,
        billed_usd=said.billed(),
    )
