"""Perplexity's Agent API: the Responses API's form, with fields, sources and a bill of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from examples.ai.script import Asked, Refused, Said
from examples.ai.speaks import openai_responses
from examples.ai.speaks.openai_responses import broken, error, failed

__all__ = ["broken", "error", "failed", "read", "refused", "say"]

_KNOWN = {
    "model", "models", "preset", "input", "instructions", "max_output_tokens", "temperature", "top_p", "reasoning",
    "response_format", "tools", "tool_choice", "parallel_tool_calls", "stream", "stream_options", "store", "metadata",
    "language_preference", "max_steps", "max_tool_calls", "previous_response_id", "background", "truncation",
}  # fmt: skip
_PRESETS = ("fast", "low", "medium", "high", "xhigh")


def read(body: dict[str, Any], path: str) -> Asked:
    form = (body.get("response_format") or {}).get("json_schema") or {}
    return replace(openai_responses.read(body, path), schema=form.get("schema"))


def refused(body: dict[str, Any], path: str) -> Refused | None:
    parts = (item["content"] for item in body["input"] if isinstance(item.get("content"), list))
    unknown = sorted(set(body) - _KNOWN) or ["detail" for of in parts if any("detail" in part for part in of)]
    if unknown:
        return Refused(f'invalid request body: json: unknown field "{unknown[0]}"', unknown[0], None)
    if "/" not in body.get("model", "/") or body.get("preset", "fast") not in _PRESETS:
        return Refused("invalid model", "model", "invalid_model")
    return None


def say(said: Said) -> list[str]:
    """Without lines that name the event."""
    return [
        f"data: {json.dumps(event | {'sequence_number': number})}\n\n" for number, event in enumerate(_events(said))
    ]


def _events(said: Said) -> Iterator[dict[str, Any]]:
    found = [
        {"id": number, "url": url, "title": title, "snippet": f"of {title}", "source": "web"}
        for number, (url, title) in enumerate(said.script.citations, 1)
    ]
    plain = replace(said, script=replace(said.script, citations=(), thoughts=()))
    for event in openai_responses.events(plain):
        response = event.get("response") or {}
        if response.get("usage"):
            searches = [{"type": "search_results", "queries": ["hi"], "results": found}] if found else []
            response["output"] = [*searches, *response["output"]]
            response["usage"] = {"cost": _cost(said, len(searches))} | response["usage"]
        yield event
        if event["type"] == "response.created":
            yield {"type": "response.reasoning.started"}
            yield {"type": "response.reasoning.search_results", "results": found}
            yield {"type": "response.reasoning.stopped"}


def _cost(said: Said, searches: int) -> dict[str, Any]:
    parts = {
        "input_cost": said.input_tokens * 0.25 / 1e6,
        "output_cost": said.output_tokens * 2.5 / 1e6,
        "tool_calls_cost": searches * 0.0025,
    }
    return parts | {"total_cost": sum(parts.values()), "currency": "USD"}
