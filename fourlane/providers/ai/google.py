"""Google's Gemini API."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from fourlane.providers.ai import outcomes
from fourlane.providers.ai.accounts import Account, http
from fourlane.providers.ai.answer import Citation, FailedAnswer
from fourlane.providers.ai.counts import Counts
from fourlane.providers.ai.errors import GoogleRefused
from fourlane.providers.ai.families import Family, family, nearest
from fourlane.providers.ai.inputs import base64_of, own_turn, turns, with_texts
from fourlane.providers.ai.pieces import Piece
from fourlane.providers.ai.question import ChatMessage, Question, Tool, ToolCall
from fourlane.providers.ai.refusals import send
from fourlane.providers.ai.sse import events
from fourlane.providers.ai.usage import Usage

__all__ = ["body_of", "stream", "usage_of"]

_OURS: Final = "call-"
_BUDGETS: Final = {"none": 0, "low": 1_024, "medium": 8_192, "high": 24_576}


async def stream(account: Account, question: Question) -> AsyncGenerator[Piece, None]:
    """The pieces of an answer."""
    body = body_of(account.provider, question, family(account.provider, question.model))
    headers = {"x-goog-api-key": account.api_key}
    path = f"/v1beta/models/{quote(question.model.removeprefix('models/'), safe='')}:streamGenerateContent?alt=sse"

    async def opened(body: dict[str, Any], _: str) -> Any:
        client = http(account)
        response = await client.send(client.build_request("POST", path, json=body, headers=headers), stream=True)
        if response.status_code >= 400:
            raise GoogleRefused(response, await response.aread())
        return response

    response = await send(account, question, body, opened)
    async with aclosing(response):
        reading = _GeminiAnswer(account.provider, question.model)
        async with aclosing(events(response)) as told:
            async for event in told:
                yield reading.piece(event)
        yield reading.end()


def body_of(provider: str, question: Question, takes: Family) -> dict[str, Any]:
    """The request."""
    config: dict[str, Any] = {"maxOutputTokens": question.max_tokens}
    if question.temperature is not None and takes.samples:
        config["temperature"] = question.temperature
    if question.seed is not None:
        config["seed"] = question.seed
    if question.stop:
        config["stopSequences"] = list(question.stop)
    effort = nearest(question.effort, takes.efforts) if question.effort else None
    if effort:
        level = {"thinkingLevel": effort.upper()}
        config["thinkingConfig"] = {"thinkingBudget": _BUDGETS[effort]} if takes.thinking == "budget" else level
    if question.schema is not None:
        config |= {"responseMimeType": "application/json", "responseJsonSchema": dict(question.schema)}
    names = {call.id: call.name for message in question.messages for call in message.calls}
    contents = [
        {
            "role": "model" if of_model else "user",
            "parts": [part for message in turn for part in _parts(provider, question.model, message, names)],
        }
        for of_model, turn in turns(question.messages)
    ]
    body: dict[str, Any] = {"contents": contents, "generationConfig": config}
    if question.system:
        body["systemInstruction"] = {"parts": [{"text": question.system}]}
    if question.tools:
        body["tools"] = [{"functionDeclarations": [_tool(tool) for tool in question.tools]}]
        if question.must_call:
            body["toolConfig"] = {"functionCallingConfig": {"mode": "ANY"}}
    return body


def _tool(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parametersJsonSchema": dict(tool.parameters)}


def _parts(provider: str, model: str, message: ChatMessage, names: dict[str, str]) -> Iterator[dict[str, Any]]:
    if message.role == "tool":
        name = names.get(message.call_id, message.call_id)
        response = {"name": name, "response": {"result": message.text}}
        yield {"functionResponse": response | _id(message.call_id)}
        return
    if own := own_turn(message, provider, model):
        yield from own
        return
    text, media = with_texts(message)
    for one in media:
        yield {"inlineData": {"mimeType": one.media_type, "data": base64_of(one)}}
    if text:
        yield {"text": text}
    for call in message.calls:
        yield {"functionCall": {"name": call.name, "args": json.loads(call.arguments or "{}")} | _id(call.id)}


def _id(call_id: str) -> dict[str, str]:
    """A call's id, unless it is of our own making: where Google gave none."""
    return {} if call_id.startswith(_OURS) else {"id": call_id}


class _GeminiAnswer:
    """One answer as it is read."""

    def __init__(self, provider: str, model: str) -> None:
        self._of = {"provider": provider, "model": model}
        self._calls: list[ToolCall] = []
        self._parts: list[dict[str, Any]] = []
        self._signs = False
        self._grounding: dict[str, Any] = {}
        self._text: list[str] = []
        self._usage: Usage | None = None

    def piece(self, event: dict[str, Any]) -> Piece:
        """What an event says. Raises FailedAnswer."""
        error = event.get("error")
        if error:
            word = str(error.get("status") or error.get("code") or "error")
            raise FailedAnswer(f"the answer failed: {error.get('message') or word}", word)
        blocked = (event.get("promptFeedback") or {}).get("blockReason")
        candidate = next(iter(event.get("candidates") or ()), None) or {}
        parts = (candidate.get("content") or {}).get("parts") or ()
        text = "".join(self._part(part) for part in parts)
        self._text.append(text)
        self._grounding = candidate.get("groundingMetadata") or self._grounding
        finish = candidate.get("finishReason") or ""
        if event.get("usageMetadata"):
            self._usage = usage_of(event["usageMetadata"])
        if blocked:
            return Piece(usage=self._usage, finish=blocked, outcome="blocked")
        outcome = outcomes.GOOGLE.get(finish)
        return Piece(text=text, alive=bool(parts), usage=self._usage, finish=finish, outcome=outcome)

    def _part(self, part: dict[str, Any]) -> str:
        """The text of a part that is of the answer."""
        if part.get("thought"):
            return ""
        call = part.get("functionCall")
        if call:
            call_id, arguments = call.get("id") or f"{_OURS}{len(self._calls)}", json.dumps(call.get("args") or {})
            self._calls.append(ToolCall(id=call_id, name=call.get("name") or "", arguments=arguments))
        self._signs = self._signs or bool(call or part.get("thoughtSignature"))
        self._parts.append(part)
        return part.get("text") or ""

    def end(self) -> Piece:
        """What is known only when all has come."""
        citations, searches = _grounded(self._grounding, "".join(self._text))
        return Piece(
            calls=tuple(self._calls),
            citations=citations,
            usage=replace(self._usage, searches=searches) if self._usage and searches else None,
            raw=self._of | {"content": self._parts} if self._signs else None,
        )


def _grounded(found: dict[str, Any], text: str) -> tuple[tuple[Citation, ...], int]:
    """The sources of an answer, with the words that they stand for, and how many searches were made."""
    webs = [chunk.get("web") or {} for chunk in found.get("groundingChunks") or ()]
    raw = text.encode("utf-8", "replace")
    cited: list[Citation] = []
    for support in found.get("groundingSupports") or ():
        segment = support.get("segment") or {}
        # Google counts bytes.
        start, end = (
            len(raw[: segment.get(name) or 0].decode("utf-8", "ignore")) for name in ("startIndex", "endIndex")
        )
        for number in support.get("groundingChunkIndices") or ():
            if 0 <= number < len(webs):
                cited.append(_citation(webs[number], quote=segment.get("text") or "", start=start, end=end))
    named = {one.url for one in cited}
    cited += (_citation(web) for web in webs if web.get("uri") not in named)
    return tuple(cited), len(found.get("webSearchQueries") or ())


def _citation(web: dict[str, Any], **where: Any) -> Citation:
    return Citation(url=web.get("uri") or "", title=web.get("title") or "", **where)


def usage_of(told: Any) -> Usage:
    """What it says that the call took: thoughts are output, and what its tools found is input."""
    said = Counts(told)
    read, wrote = (
        {str(one.word("modality")): one.of("tokenCount") for one in said.parts(name)}
        for name in ("promptTokensDetails", "candidatesTokensDetails")
    )
    thoughts = said.of("thoughtsTokenCount")
    return Usage(
        input_tokens=said.of("promptTokenCount") + said.of("toolUsePromptTokenCount"),
        cache_read_tokens=said.of("cachedContentTokenCount"),
        input_audio_tokens=read.get("AUDIO", 0),
        input_image_tokens=read.get("IMAGE", 0),
        output_tokens=said.of("candidatesTokenCount") + thoughts,
        reasoning_tokens=thoughts,
        output_audio_tokens=wrote.get("AUDIO", 0),
        output_image_tokens=wrote.get("IMAGE", 0),
    )
