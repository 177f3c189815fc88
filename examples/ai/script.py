"""What the stand-in answers, in one form for all protocols: told by a script, else the prompt's own words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Asked", "Refused", "Said", "Script", "said"]


@dataclass(frozen=True, kw_only=True)
class Script:
    """What one request is answered; what is left out: as a plain answer has it.

    Parameters:
      pieces: of the text, as they are sent; None: the prompt's own words.
      thoughts: pieces of what it thinks before, marked as thoughts.
      calls: of tools: their names and arguments.
      citations: ``(url, title)``.
      finish: the protocol's own word for the end; for the Responses API a reason why it is incomplete.
      refusal: what it says instead of the text.
      usage: fields of the protocol's own usage, added or in place of those that are counted; None: no usage at all.
      extra: fields that are added to each event (chat) or to the answer (others).
      pause_seconds: before each event.
      pings: signs of life that carry nothing, before the first piece.
    """

    pieces: tuple[str, ...] | None = None
    thoughts: tuple[str, ...] = ()
    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    citations: tuple[tuple[str, str], ...] = ()
    finish: str = ""
    refusal: str = ""
    usage: Mapping[str, Any] | None = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    pause_seconds: float = 0.0
    pings: int = 0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a request asks, whichever protocol it came by."""

    prompt: str
    schema: Mapping[str, Any] | None = None
    tools: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    must_call: bool = False


@dataclass(frozen=True, kw_only=True)
class Said:
    """An answer before its protocol puts it into words: a script with all that was left out."""

    pieces: tuple[str, ...]
    calls: tuple[tuple[str, Mapping[str, Any]], ...]
    input_tokens: int
    output_tokens: int
    script: Script

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True)
class Refused:
    """A parameter that the model does not take: the status is 400."""

    message: str
    param: str
    code: str | None


def said(asked: Asked, script: Script) -> Said:
    """What the stand-in says to a question."""
    calls = script.calls
    if asked.must_call and not calls and asked.tools:
        name, parameters = asked.tools[0]
        calls = ((name, sample(parameters)),)
    if script.pieces is not None:
        pieces = script.pieces
    elif calls or script.refusal:
        pieces = ()
    elif asked.schema is not None:
        pieces = (json.dumps(sample(asked.schema)),)
    else:
        pieces = tuple(word + " " for word in f"You said: {asked.prompt[:400]}".split())
    return Said(
        pieces=pieces,
        calls=calls,
        input_tokens=len(asked.prompt) // 4 + 1,
        output_tokens=len(pieces) + len(script.thoughts) + len(calls),
        script=script,
    )


def sample(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Any:
    """A value that a JSON Schema allows, of the simple ones that models are given."""
    root = schema if root is None else root
    if "$ref" in schema:
        found: Any = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return sample(found, root)
    if "const" in schema or "enum" in schema:
        return schema.get("const", (schema.get("enum") or [None])[0])
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return sample(schema[several][0], root)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: sample(of, root) for name, of in schema.get("properties", {}).items()}
    if kind == "array":
        return [sample(schema.get("items", {}), root)] * max(1, schema.get("minItems", 1))
    numbers = {"integer": schema.get("minimum", 1), "number": schema.get("minimum", 1.5)}
    return {"string": "word", "boolean": True, "null": None, **numbers}.get(kind)
