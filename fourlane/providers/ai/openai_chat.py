"""OpenAI's chat completions, which OpenRouter and many gateways speak too, those to Perplexity among them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from fourlane.providers.ai import outcomes
from fourlane.providers.ai.accounts import Account, streamed
from fourlane.providers.ai.answer import Citation, FailedAnswer
from fourlane.providers.ai.counts import Counts
from fourlane.providers.ai.families import Family, family, nearest
from fourlane.providers.ai.inputs import audio_format, base64_of, data_url, own_turn, with_texts
from fourlane.providers.ai.openai_responses import cache_key
from fourlane.providers.ai.pieces import Piece
from fourlane.providers.ai.question import ChatMessage, Media, Question, Tool, ToolCall, header_of
from fourlane.providers.ai.refusals import send
from fourlane.providers.ai.schemas import strict
from fourlane.providers.ai.sse import events
from fourlane.providers.ai.stops import Stops
from fourlane.providers.ai.thoughts import Thoughts
from fourlane.providers.ai.usage import Usage
from fourlane.providers.signals import quota_silence_ms

__all__ = ["body_of", "stream", "usage_of"]


async def stream(account: Account, question: Question) -> AsyncGenerator[Piece, None]:
    """The pieces of an answer."""
    takes = family(account.provider, question.model)
    body = body_of(account.provider, question, takes)
    response = await send(
        account,
        question,
        body,
        lambda body, key: streamed(account, "/chat/completions", body=body, headers=header_of(key)),
    )
    async with aclosing(response):
        yield Piece(silence_ms=quota_silence_ms(response.headers))
        reading = _ChatAnswer(account.provider, question.model, () if takes.stops else question.stop)
        async with aclosing(events(response)) as told:
            async for event in told:
                for piece in reading.pieces(event):
                    yield piece
        yield reading.end()


def body_of(provider: str, question: Question, takes: Family) -> dict[str, Any]:
    """The request."""
    effort = nearest(question.effort, takes.efforts) if question.effort else None
    most = "max_completion_tokens" if takes.reasons and provider != "perplexity" else "max_tokens"
    body: dict[str, Any] = {
        "model": question.model,
        "messages": list(_messages(provider, question)),
        most: question.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if effort:
        body |= {"reasoning": {"effort": effort}} if provider == "openrouter" else {"reasoning_effort": effort}
    if question.temperature is not None and (takes.samples is True or (takes.samples and effort == "none")):
        body["temperature"] = question.temperature
    if question.seed is not None and provider != "perplexity":
        body["seed"] = question.seed
    if question.stop and takes.stops:
        body["stop"] = list(question.stop)
    if question.tools:
        body["tools"] = [_tool(tool) for tool in question.tools]
        if question.must_call:
            body["tool_choice"] = "required"
    if question.schema is not None:
        kept = strict(question.schema)
        form: dict[str, Any] = {"name": "answer", "schema": kept or dict(question.schema), "strict": kept is not None}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    if question.cache and provider == "openai":
        body["prompt_cache_key"] = cache_key(question)
    if provider == "openrouter":
        body["usage"] = {"include": True}  # what it billed
    return body


def _tool(tool: Tool) -> dict[str, Any]:
    kept = strict(tool.parameters)
    function = {"name": tool.name, "description": tool.description, "parameters": kept or dict(tool.parameters)}
    return {"type": "function", "function": function | ({"strict": True} if kept is not None else {})}


def _messages(provider: str, question: Question) -> Iterator[dict[str, Any]]:
    # Of those who speak so only the makers behind OpenRouter want to be told what to cache.
    marked = question.cache and provider == "openrouter"
    if question.system:
        part = {"type": "text", "text": question.system, "cache_control": {"type": "ephemeral"}}
        yield {"role": "system", "content": [part] if marked else question.system}
    for message in question.messages:
        yield _message(provider, question.model, message)


def _message(provider: str, model: str, message: ChatMessage) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.call_id, "content": message.text}
    if message.role == "assistant":
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.calls
        ]
        made: dict[str, Any] = {"role": "assistant", "content": message.text or None}
        return made | ({"tool_calls": calls} if calls else {}) | (own_turn(message, provider, model) or {})
    text, media = with_texts(message)
    parts = [{"type": "text", "text": text}] if text else []
    return {"role": "user", "content": [*parts, *(_part(one) for one in media)] if media else text}


def _part(media: Media) -> dict[str, Any]:
    if media.media_type.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": data_url(media)}}
    if media.media_type.startswith("audio/"):
        return {"type": "input_audio", "input_audio": {"data": base64_of(media), "format": audio_format(media)}}
    return {"type": "file", "file": {"filename": media.name or "file.pdf", "file_data": data_url(media)}}


class _ChatAnswer:
    """One answer as it is read: tool calls come in parts, sources and details of thoughts are gathered."""

    def __init__(self, provider: str, model: str, stops: Sequence[str] = ()) -> None:
        self._of = {"provider": provider, "model": model}
        self._stops = Stops(stops)
        self._thoughts = Thoughts()
        self._calls: dict[int, list[str]] = {}
        self._details: list[Any] = []
        self._sources: dict[str, Citation] = {}
        self._refused = False

    def pieces(self, event: dict[str, Any]) -> Iterator[Piece]:
        """What an event says. Raises FailedAnswer."""
        error = event.get("error")
        if error:
            told = error if isinstance(error, dict) else {"message": error}
            word = str(told.get("code") or told.get("type") or "error")
            raise FailedAnswer(f"the answer failed: {told.get('message') or word}", word)
        if event.get("usage"):
            yield Piece(usage=usage_of(event["usage"]))
        for source in event.get("search_results") or event.get("citations") or ():
            self._cite(source if isinstance(source, dict) else {"url": source})
        for choice in event.get("choices") or ():
            yield from self._choice(choice or {})

    def _choice(self, choice: dict[str, Any]) -> Iterator[Piece]:
        delta = choice.get("delta") or {}
        self._refused = self._refused or bool(delta.get("refusal"))
        for call in delta.get("tool_calls") or ():
            self._call(call or {})
        self._details += delta.get("reasoning_details") or ()
        for note in delta.get("annotations") or ():
            self._cite(note.get("url_citation") or {})
        thought = delta.get("reasoning") or delta.get("reasoning_content") or delta.get("reasoning_details")
        text = delta.get("content")
        alive = bool(text or thought or delta.get("tool_calls") or delta.get("refusal"))
        finish = choice.get("finish_reason") or ""
        if finish == "error":
            raise FailedAnswer("the answer failed", "error")
        if alive or finish:
            finish = "refusal" if self._refused and finish else finish
            shown = self._thoughts.without(text) if isinstance(text, str) else ""
            yield Piece(text=self._stops.before(shown), alive=alive, finish=finish, outcome=outcomes.CHAT.get(finish))

    def _call(self, call: dict[str, Any]) -> None:
        number = call.get("index")
        function = call.get("function") or {}
        # Gateways that give no number give each call whole.
        place = self._calls.setdefault(len(self._calls) if number is None else number, ["", "", ""])
        place[0] = call.get("id") or place[0]
        place[1] = function.get("name") or place[1]
        place[2] += function.get("arguments") or ""

    def _cite(self, source: dict[str, Any]) -> None:
        url = source.get("url") or ""
        known = self._sources.get(url)
        if url and (known is None or not known.title):
            quote = source.get("snippet") or source.get("content") or ""
            self._sources[url] = Citation(url=url, title=source.get("title") or "", quote=quote)

    def end(self) -> Piece:
        """What is known only when all has come."""
        calls = (ToolCall(id=key, name=name, arguments=text) for key, name, text in self._calls.values())
        return Piece(
            text=self._stops.before(self._thoughts.rest()) + self._stops.rest(),
            calls=tuple(call for call in calls if call.name),
            citations=tuple(self._sources.values()),
            raw=self._of | {"content": {"reasoning_details": self._details}} if self._details else None,
        )


def usage_of(told: Any) -> Usage:
    """What it says that the call took."""
    said = Counts(told)
    read, wrote = said.part("prompt_tokens_details"), said.part("completion_tokens_details")
    return Usage(
        input_tokens=said.of("prompt_tokens"),
        cache_read_tokens=read.of("cached_tokens") or said.of("prompt_cache_hit_tokens"),  # DeepSeek's own word
        cache_write_tokens=read.of("cache_write_tokens"),
        input_audio_tokens=read.of("audio_tokens"),
        input_image_tokens=read.of("image_tokens"),
        output_tokens=said.of("completion_tokens"),
        reasoning_tokens=wrote.of("reasoning_tokens") or said.of("reasoning_tokens"),
        output_audio_tokens=wrote.of("audio_tokens"),
        output_image_tokens=wrote.of("image_tokens"),
        searches=said.of("num_search_queries") or said.part("server_tool_use").of("web_search_requests"),
        billed_usd=said.billed(),
    )
