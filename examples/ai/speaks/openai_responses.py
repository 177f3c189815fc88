"""OpenAI's Responses API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from examples.ai.script import Asked, Refused, Said
from examples.ai.speaks.families import refused_by_openai
from examples.ai.speaks.openai_chat import error

__all__ = ["broken", "error", "events", "failed", "read", "refused", "say"]

_KNOWN = {
    "model", "input", "instructions", "max_output_tokens", "temperature", "reasoning", "text", "tools", "tool_choice",
    "parallel_tool_calls", "include", "store", "stream", "stream_options", "prompt_cache_key", "metadata", "top_p",
    "truncation", "service_tier", "safety_identifier", "prompt_cache_options", "moderation", "background", "user",
}  # fmt: skip


def read(body: dict[str, Any], path: str) -> Asked:
    asked = body["input"]
    last = asked if isinstance(asked, str) else asked[-1].get("content", asked[-1].get("output", ""))
    form = (body.get("text") or {}).get("format") or {}
    return Asked(
        prompt=last if isinstance(last, str) else "".join(part.get("text", "") for part in last),
        schema=form.get("schema"),
        tools=tuple((tool["name"], tool["parameters"]) for tool in body.get("tools", ()) if tool["type"] == "function"),
        must_call=body.get("tool_choice") == "required",
    )


def refused(body: dict[str, Any], path: str) -> Refused | None:
    unknown = sorted(set(body) - _KNOWN)
    if unknown:
        return Refused(f"Unknown parameter: '{unknown[0]}'.", unknown[0], "unknown_parameter")
    return refused_by_openai(body, (body.get("reasoning") or {}).get("effort"), "reasoning.effort")


def broken(word: str) -> str:
    data = {"type": "error", "code": word, "message": f"planned {word}", "param": None, "sequence_number": 9}
    return f"event: error\ndata: {json.dumps(data)}\n\n"


def failed(word: str) -> str:
    """The other way in which an answer breaks: the response itself failed."""
    response = _response("failed", [], None) | {"error": {"code": word, "message": f"planned {word}"}}
    return f"event: response.failed\ndata: {json.dumps({'type': 'response.failed', 'response': response})}\n\n"


def say(said: Said) -> list[str]:
    return [
        f"event: {event['type']}\ndata: {json.dumps(event | {'sequence_number': number})}\n\n"
        for number, event in enumerate(events(said))
    ]


def events(said: Said) -> Iterator[dict[str, Any]]:
    script = said.script
    yield {"type": "response.created", "response": _response("in_progress", [], None)}
    for _ in range(script.pings):
        yield {"type": "response.in_progress", "response": _response("in_progress", [], None)}
    items: list[dict[str, Any]] = []
    for made in (_thought(said), _message(said), *(_call(n, *call) for n, call in enumerate(said.calls))):
        begun, events, item = made
        if not item:
            continue
        place = {"output_index": len(items)}
        yield {"type": "response.output_item.added", "item": begun} | place
        for event in events:
            yield event | place | {"item_id": item["id"]}
        yield {"type": "response.output_item.done", "item": item} | place
        items.append(item)
    status = "incomplete" if script.finish else "completed"
    response = _response(status, items, _usage(said)) | dict(script.extra)
    if script.finish:
        response["incomplete_details"] = {"reason": script.finish}
    yield {"type": f"response.{status}", "response": response}


_Made = tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]


def _thought(said: Said) -> _Made:
    if not said.script.thoughts:
        return {}, [], {}
    item: dict[str, Any] = {"id": "rs_1", "type": "reasoning", "summary": []}
    kind = "response.reasoning_summary_text.delta"
    events = [{"type": kind, "delta": thought, "summary_index": 0} for thought in said.script.thoughts]
    whole = {"type": "summary_text", "text": "".join(said.script.thoughts)}
    return item, events, item | {"summary": [whole], "encrypted_content": "sealed-thoughts"}


def _message(said: Said) -> _Made:
    script = said.script
    if not (said.pieces or script.refusal):
        return {}, [], {}
    item: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
    place: dict[str, Any] = {"content_index": 0}
    if script.refusal:
        events = [{"type": "response.refusal.delta", "delta": script.refusal} | place]
        part: dict[str, Any] = {"type": "refusal", "refusal": script.refusal}
        return item, events, item | {"status": "completed", "content": [part]}
    text = {"type": "response.output_text.delta", "logprobs": []}
    events = [text | place | {"delta": piece} for piece in said.pieces]
    cited = [
        {"type": "url_citation", "url": url, "title": title, "start_index": 0, "end_index": len(said.text)}
        for url, title in script.citations
    ]
    added = "response.output_text.annotation.added"
    events += ({"type": added, "annotation": one, "annotation_index": n} | place for n, one in enumerate(cited))
    events.append({"type": "response.output_text.done", "text": said.text, "logprobs": []} | place)
    part = {"type": "output_text", "text": said.text, "annotations": cited, "logprobs": []}
    return item, events, item | {"status": "completed", "content": [part]}


def _call(number: int, name: str, arguments: Any) -> _Made:
    item = {"id": f"fc_{number}", "type": "function_call", "call_id": f"call_{number}", "name": name, "arguments": ""}
    text = json.dumps(arguments)
    kind = "response.function_call_arguments"
    parts = (text[: len(text) // 2], text[len(text) // 2 :])
    events = [{"type": f"{kind}.delta", "delta": part} for part in parts]
    events.append({"type": f"{kind}.done", "arguments": text, "name": name})
    return item, events, item | {"arguments": text, "status": "completed"}


def _usage(said: Said) -> dict[str, Any] | None:
    if said.script.usage is None:
        return None
    usage: dict[str, Any] = {"input_tokens": said.input_tokens, "output_tokens": said.output_tokens}
    usage["total_tokens"] = said.input_tokens + said.output_tokens
    usage["input_tokens_details"] = {"cached_tokens": 0, "cache_write_tokens": 0}
    usage["output_tokens_details"] = {"reasoning_tokens": len(said.script.thoughts)}
    return usage | dict(said.script.usage)


def _response(status: str, output: list[dict[str, Any]], usage: Any) -> dict[str, Any]:
    made = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "error": None, "metadata": {}}
    made |= {"incomplete_details": None, "instructions": None, "parallel_tool_calls": True, "tools": []}
    return made | {"tool_choice": "auto", "status": status, "output": output, "usage": usage}
