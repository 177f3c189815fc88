"""Chat completions, of OpenAI and of those who speak like it."""

from __future__ import annotations

import json
from typing import Any

from examples.ai.script import Asked, Refused, Said
from examples.ai.speaks.families import refused_by_openai

__all__ = ["broken", "error", "read", "refused", "say"]


def read(body: dict[str, Any], path: str) -> Asked:
    content = body["messages"][-1]["content"]
    tools = tuple((tool["function"]["name"], tool["function"]["parameters"]) for tool in body.get("tools", ()))
    form = body.get("response_format") or {}
    return Asked(
        prompt=content if isinstance(content, str) else "".join(part.get("text", "") for part in content),
        schema=(form.get("json_schema") or {}).get("schema"),
        tools=tools,
        must_call=body.get("tool_choice") == "required",
    )


def refused(body: dict[str, Any], path: str) -> Refused | None:
    return refused_by_openai(body, body.get("reasoning_effort"), "reasoning_effort")


def error(status: int, message: str, word: str = "", param: str | None = None) -> dict[str, Any]:
    kind = {401: "authentication_error", 429: "requests", 500: "server_error"}.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": word or None}}


def broken(word: str) -> str:
    """As OpenRouter says it amid an answer: a chunk with an error, whose code is a status."""
    code: Any = int(word) if word.isdigit() else word
    data = _chunk({"content": ""}, "error") | {"error": {"code": code, "message": f"planned {word}"}}
    return f"data: {json.dumps(data)}\n\n"


def say(said: Said) -> list[str]:
    script = said.script
    chunks = [_chunk({"role": "assistant", "content": ""})] if script.pings or not said.pieces else []
    chunks += (_chunk({"content": "", "reasoning": thought}) for thought in script.thoughts)
    chunks += (_chunk({"role": "assistant", "content": piece}) for piece in said.pieces)
    if script.refusal:
        chunks.append(_chunk({"refusal": script.refusal}))
    for number, (name, arguments) in enumerate(said.calls):
        text = json.dumps(arguments)
        begun = {
            "index": number,
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        chunks.append(_chunk({"tool_calls": [begun]}))
        for part in (text[: len(text) // 2], text[len(text) // 2 :]):
            chunks.append(_chunk({"tool_calls": [{"index": number, "function": {"arguments": part}}]}))
    if script.citations:
        cited = [{"type": "url_citation", "url_citation": {"url": u, "title": t}} for u, t in script.citations]
        chunks.append(_chunk({"annotations": cited}))
    chunks.append(_chunk({}, script.finish or ("tool_calls" if said.calls else "stop")))
    if script.usage is not None:
        usage = {"prompt_tokens": said.input_tokens, "completion_tokens": said.output_tokens}
        usage["total_tokens"] = sum(usage.values())
        chunks.append(_chunk({}) | {"choices": [], "usage": usage | dict(script.usage)})
    pings = [": OPENROUTER PROCESSING\n\n"] * script.pings
    events = [f"data: {json.dumps(chunk | dict(script.extra))}\n\n" for chunk in chunks]
    return [*pings, *events, "data: [DONE]\n\n"]


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    made = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return made | {"choices": [choice], "usage": None}
