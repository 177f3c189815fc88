"""Google's Gemini API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from examples.ai.script import Asked, Refused, Said

__all__ = ["broken", "error", "read", "refused", "say"]


def read(body: dict[str, Any], path: str) -> Asked:
    parts = body["contents"][-1]["parts"]
    config = body.get("generationConfig") or {}
    declared = [one for tool in body.get("tools", ()) for one in tool.get("functionDeclarations", ())]
    mode = ((body.get("toolConfig") or {}).get("functionCallingConfig") or {}).get("mode")
    results = [part["functionResponse"]["response"] for part in parts if "functionResponse" in part]
    texts = [str(next(iter(result.values()), "")) for result in results] or [part.get("text", "") for part in parts]
    return Asked(
        prompt="".join(texts),
        schema=config.get("responseJsonSchema"),
        tools=tuple((one["name"], one.get("parametersJsonSchema") or {}) for one in declared),
        must_call=mode == "ANY",
    )


def refused(body: dict[str, Any], path: str) -> Refused | None:
    thinking = (body.get("generationConfig") or {}).get("thinkingConfig") or {}
    old = "gemini-2" in path or "gemini-1" in path
    if thinking.get("thinkingLevel") and old:
        return Refused("Thinking level is not supported for this model.", "thinkingLevel", "INVALID_ARGUMENT")
    if thinking.get("thinkingLevel") == "MINIMAL" and "flash" not in path:
        return Refused("Thinking level MINIMAL is not supported for this model.", "thinkingLevel", "INVALID_ARGUMENT")
    if thinking.get("thinkingBudget") == 0 and "pro" in path:
        words = "Budget 0 is invalid. This model only works in thinking mode."
        return Refused(words, "thinkingBudget", "INVALID_ARGUMENT")
    return None


def error(status: int, message: str, word: str = "", param: str | None = None) -> dict[str, Any]:
    words = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
    words |= {429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
    return {"error": {"code": status, "message": message, "status": word or words.get(status, "INTERNAL")}}


def broken(word: str) -> str:
    return f"data: {json.dumps(error(503, f'planned {word}', word))}\n\n"


def say(said: Said) -> list[str]:
    return [f"data: {json.dumps(chunk)}\n\n" for chunk in _chunks(said)]


def _chunks(said: Said) -> Iterator[dict[str, Any]]:
    script = said.script
    if script.refusal:
        yield {"promptFeedback": {"blockReason": "SAFETY"}} | _usage(said)
        return
    parts: list[dict[str, Any]] = [{"text": thought, "thought": True} for thought in script.thoughts]
    parts += ({"text": piece} for piece in said.pieces)
    for number, (name, arguments) in enumerate(said.calls):
        part: dict[str, Any] = {"functionCall": {"name": name, "args": dict(arguments), "id": f"fc_{number}"}}
        parts.append(part | ({"thoughtSignature": "c2lnbmVk"} if not number else {}))
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts[-1:]}, "index": 0}
    candidate["finishReason"] = script.finish or "STOP"
    if script.citations:
        found = [{"web": {"uri": url, "title": title}} for url, title in script.citations]
        segment = {"startIndex": 0, "endIndex": len(said.text.encode("utf-8", "surrogatepass")), "text": said.text}
        support = {"segment": segment, "groundingChunkIndices": list(range(len(found)))}
        grounding = {"groundingChunks": found, "groundingSupports": [support], "webSearchQueries": ["a"]}
        candidate["groundingMetadata"] = grounding
    for _ in range(script.pings):
        yield _usage(said)
    for part in parts[:-1]:
        yield {"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]} | _usage(said)
    yield {"candidates": [candidate]} | _usage(said) | dict(script.extra)


def _usage(said: Said) -> dict[str, Any]:
    if said.script.usage is None:
        return {}
    thoughts = len(said.script.thoughts)
    used = {"promptTokenCount": said.input_tokens, "candidatesTokenCount": said.output_tokens - thoughts}
    used |= {"thoughtsTokenCount": thoughts} if thoughts else {}
    return {"usageMetadata": used | dict(said.script.usage)}
