"""JSON Schemas in the form in which a provider keeps them by force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fourlane.errors import FourlaneError

__all__ = ["strict"]

# Of these no form is known that is kept by force.
_LOOSE: Final = frozenset(
    {"allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties"}
)
# These are not kept by force; whoever reads the answer checks it against the whole schema.
_DROPPED: Final = frozenset(
    {"default", "examples", "minLength", "maxLength", "minProperties", "maxProperties", "uniqueItems", "$schema"}
)


def strict(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema as OpenAI keeps it by force: each object has all of its properties and no other.

    So one that may be left out must be one that may be null, or the model would have to invent it.

    What keeps it keeps the schema itself too, but for words that OpenAI does not know. None: it cannot be said so.
    """
    if schema.get("type") != "object" or "anyOf" in schema:
        return None
    try:
        made: dict[str, Any] = _strict(schema)
    except _Loose:
        return None
    return made


class _Loose(FourlaneError):
    """A schema that cannot be kept strictly."""


def _strict(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        raise _Loose  # true, or nothing that is a schema
    if _LOOSE & schema.keys():
        raise _Loose
    made = {name: value for name, value in schema.items() if name not in _DROPPED}
    for name in ("properties", "$defs", "definitions"):
        if name in made:
            made[name] = {key: _strict(of) for key, of in made[name].items()}
    if "items" in made:
        made["items"] = _strict(made["items"])
    if "anyOf" in made:
        made["anyOf"] = [_strict(of) for of in made["anyOf"]]
    if made.get("type") == "object" or "properties" in made:
        if made.get("additionalProperties") or "properties" not in made:
            raise _Loose  # a mapping of any names
        optional = made["properties"].keys() - set(made.get("required", ()))
        if not all(_takes_null(made["properties"][name]) for name in optional):
            raise _Loose
        made["additionalProperties"] = False
        made["required"] = list(made["properties"])
    return made


def _takes_null(schema: Mapping[str, Any]) -> bool:
    kinds = schema.get("type")
    return "null" in (kinds if isinstance(kinds, list) else [kinds]) or any(map(_takes_null, schema.get("anyOf", ())))
