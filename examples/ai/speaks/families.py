"""Which models of the stand-in's OpenAI reason, and what those refuse, in OpenAI's own words."""

from __future__ import annotations

import re
from typing import Any

from examples.ai.script import Refused

__all__ = ["refused_by_openai"]

_REASONS = re.compile(r"(?:.*/)?(?:o\d|gpt-[5-9](?!.*chat))")
_EFFORTS = {
    "o": ("low", "medium", "high"),
    "gpt-5": ("minimal", "low", "medium", "high"),
    "gpt-5.1": ("none", "low", "medium", "high"),
    "gpt-5.5": ("none", "low", "medium", "high", "xhigh"),
    "gpt-6": ("none", "low", "medium", "high", "xhigh", "max"),
}


def refused_by_openai(body: dict[str, Any], effort: str | None, effort_name: str) -> Refused | None:
    """What a model of OpenAI does not take of a request."""
    model = body.get("model", "")
    if not _REASONS.match(model):
        return _unsupported(effort_name) if effort else None
    if body.get("max_tokens") is not None:
        return _unsupported("max_tokens", " Use 'max_completion_tokens' instead.")
    if body.get("temperature") not in (None, 1) and effort != "none":
        return _unsupported("temperature")
    if body.get("stop"):
        return _unsupported("stop")
    name = max((known for known in _EFFORTS if model.rpartition("/")[2].startswith(known)), key=len, default="gpt-6")
    if effort and effort not in _EFFORTS[name]:
        told = ", ".join(f"'{word}'" for word in _EFFORTS[name][:-1]) + f", and '{_EFFORTS[name][-1]}'"
        words = (
            f"Unsupported value: '{effort}' is not supported with the '{model}' model. Supported values are: {told}."
        )
        return Refused(words, effort_name, "unsupported_value")
    return None


def _unsupported(name: str, instead: str = "") -> Refused:
    words = f"Unsupported parameter: '{name}' is not supported with this model.{instead}"
    return Refused(words, name, "unsupported_parameter")
