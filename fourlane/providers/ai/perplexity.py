"""Perplexity's Agent API: OpenAI's Responses API, but for what is said here. It refuses whatever it does not know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fourlane.providers.ai.answer import Citation

__all__ = ["agent_body", "model_behind", "sources"]

_SONAR: Final = "perplexity/sonar"
_PRESETS: Final[Mapping[str, str]] = {
    "sonar": "",
    "sonar-pro": "fast",
    "sonar-reasoning": "low",
    "sonar-reasoning-pro": "low",
    "sonar-deep-research": "medium",
}
"""The models of its chat completions, which ended on 2026-09-27, and how thoroughly Sonar is told to search instead."""
_SEARCH: Final = {"type": "web_search"}


def model_behind(model: str) -> str:
    """What answers for a model, by the name that it is asked and priced by."""
    return _SONAR if model in _PRESETS else model


def agent_body(body: dict[str, Any]) -> dict[str, Any]:
    """A request to the Responses API, as the Agent API takes it."""
    told = {name: value for name, value in body.items() if name not in ("include", "text")}
    told["model"] = model_behind(body["model"])  # said with a preset too, which else may take a model of others
    if preset := _PRESETS.get(body["model"]):
        told["preset"] = preset  # it searches by itself
    else:
        told["tools"] = [*body.get("tools", ()), _SEARCH]
        if "tools" not in body:
            told["tool_choice"] = _SEARCH  # a model that may search does not always
    if "text" in body:
        form = {name: value for name, value in body["text"]["format"].items() if name != "type"}
        told["response_format"] = {"type": "json_schema", "json_schema": form}
    told["input"] = [_without_detail(item) for item in body["input"]]
    return told


def _without_detail(item: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(item.get("content"), list):
        return item
    parts = [{name: part[name] for name in part if name != "detail"} for part in item["content"]]
    return {**item, "content": parts}


def sources(output: list[dict[str, Any]]) -> Iterator[Citation]:
    """What was found, in the order by which the text numbers it."""
    for item in output:
        for found in (item.get("results") or ()) if item.get("type") == "search_results" else ():
            quote = found.get("snippet") or ""
            yield Citation(url=found.get("url") or "", title=found.get("title") or "", quote=quote)
