"""Anthropic's messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from examples.ai.script import Asked, Refused, Said

__all__ = ["broken", "error", "read", "refused", "say"]

_ADAPTIVE = re.compile(r"claude-(?:[a-z]+-(?:[5-9]|4-[7-9])|mythos)")


def read(body: dict[str, Any], path: str) -> Asked:
    content = body["messages"][-1]["content"]
    if not isinstance(content, str):
        parts = (part.get("text") or part.get("content") or "" for part in content)
        content = "".join(part if isinstance(part, str) else part[0]["text"] for part in parts)
    form = (body.get("output_config") or {}).get("format") or {}
    return Asked(
        prompt=content,
        schema=form.get("schema"),
        tools=tuple((tool["name"], tool["input_schema"]) for tool in body.get("tools", ())),
        must_call=(body.get("tool_choice") or {}).get("type") in ("any", "tool"),
    )


def refused(body: dict[str, Any], path: str) -> Refused | None:
    adaptive = _ADAPTIVE.match(body.get("model", ""))
    if "max_tokens" not in body:
        return Refused("max_tokens: Field required", "max_tokens", None)
    if adaptive and body.get("temperature") is not None:
        return Refused("`temperature` is deprecated for this model.", "temperature", None)
    if adaptive and (body.get("thinking") or {}).get("type") == "enabled":
        words = '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
        return Refused(words + '"output_config.effort" to control thinking behavior.', "thinking", None)
    for unknown in ("seed", "stop"):
        if unknown in body:
            return Refused(f"{unknown}: Extra inputs are not permitted", unknown, None)
    return None


def error(status: int, message: str, word: str = "", param: str | None = None) -> dict[str, Any]:
    kinds = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = word or kinds.get(status, "overloaded_error" if status == 529 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def broken(word: str) -> str:
    return _event("error", **error(200, f"planned {word}", word))


def say(said: Said) -> list[str]:
    return list(_events(said))


def _events(said: Said) -> Iterator[str]:
    script = said.script
    usage: dict[str, Any] = {"input_tokens": said.input_tokens, "output_tokens": 1}
    usage |= {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0} | dict(script.usage or {})
    message = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    yield _event("message_start", message=message | {"stop_reason": None, "stop_sequence": None} | dict(script.extra))
    for _ in range(script.pings):
        yield _event("ping")
    for number, (block, deltas) in enumerate(_blocks(said)):
        yield _event("content_block_start", index=number, content_block=block)
        for delta in deltas:
            yield _event("content_block_delta", index=number, delta=delta)
        yield _event("content_block_stop", index=number)
    end = script.finish or ("tool_use" if said.calls else "refusal" if script.refusal else "end_turn")
    used = {"output_tokens": said.output_tokens} | dict(script.usage or {})
    yield _event("message_delta", delta={"stop_reason": end, "stop_sequence": None}, usage=used)
    yield _event("message_stop")


def _blocks(said: Said) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    if said.script.thoughts:
        thoughts = [{"type": "thinking_delta", "thinking": thought} for thought in said.script.thoughts]
        signed = {"type": "signature_delta", "signature": "signed-thoughts"}
        yield {"type": "thinking", "thinking": "", "signature": ""}, [*thoughts, signed]
    if said.pieces:
        deltas: list[dict[str, Any]] = [{"type": "text_delta", "text": piece} for piece in said.pieces]
        for url, title in said.script.citations:
            cited = {"type": "web_search_result_location", "url": url, "title": title, "cited_text": "quoted"}
            deltas.append({"type": "citations_delta", "citation": cited | {"encrypted_index": "x"}})
        yield {"type": "text", "text": ""}, deltas
    for number, (name, arguments) in enumerate(said.calls):
        text = json.dumps(arguments)
        parts = (text[: len(text) // 2], text[len(text) // 2 :])
        block = {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": {}}
        yield block, [{"type": "input_json_delta", "partial_json": part} for part in parts]


def _event(kind: str, **data: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | data)}\n\n"
