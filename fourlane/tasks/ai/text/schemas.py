"""JSON Schemas that models shall keep: what no model can fill is found before anything is paid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fourlane.codec import encode_value
from fourlane.errors import InvalidArguments
from fourlane.tasks.ai.text.judging import refused_pattern

__all__ = ["check_schema"]

Node = Mapping[str, Any]

_MOST_DEPTH: Final = 50
_RANGES: Final = (
    ("minimum", "maximum"),
    ("exclusiveMinimum", "maximum"),
    ("minimum", "exclusiveMaximum"),
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
)
_HOLD_ONE: Final = (
    *("items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else"),
    *("unevaluatedItems", "unevaluatedProperties"),
)
_HOLD_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_HOLD_NAMED: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_OTHER_WAYS: Final = frozenset({"$ref", "anyOf", "oneOf", "allOf", "patternProperties", "if"})
"""By which a property may be described elsewhere than in ``properties``."""
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (Mapping,),
    "null": (type(None),),
}


def check_schema(schema: Any, where: str = "schema") -> None:
    """Raises InvalidArguments, with the path of the fault: it is no JSON Schema, or no model can fill it.

    Parameters:
      where: what the path begins with.
    """
    if not isinstance(schema, Mapping):
        raise InvalidArguments(f"{where}: a JSON Schema, not {type(schema).__name__}")
    encode_value(schema, where)
    nodes = list(_nodes(schema, where, 0))
    if not _is_valid(schema, where):
        return
    try:
        _check_nodes(schema, nodes, where)
    except RecursionError:
        raise InvalidArguments(f"{where}: its references lead too deep; describe it with fewer") from None


def _check_nodes(schema: Node, nodes: Sequence[tuple[str, Node]], where: str) -> None:
    circles, known = _Circles(schema), {id(node) for _, node in nodes}
    uses_both = {"unevaluatedProperties", "patternProperties"} <= {name for _, node in nodes for name in node}
    if uses_both:
        raise InvalidArguments(f"{where}: unevaluatedProperties beside patternProperties; use additionalProperties")
    for path, node in nodes:
        for fault in (*_faults(schema, node), *circles.at(node)):
            raise InvalidArguments(f"{path}: {fault}")
        if "$ref" in node and id(_referred(schema, node["$ref"])) not in known:
            raise InvalidArguments(f"{path}: $ref {node['$ref']!r} leads to what is no schema; put it into $defs")
        if "$id" in node and node is not schema:
            raise InvalidArguments(f"{path}: $id changes where references lead; leave it out")
    if _resolved(schema).get("type") != "object":
        raise InvalidArguments(f"{where}: its root is an object; put the value that you want into a property of one")
    if endless := _Endless(schema).at(schema, where, ()):
        raise InvalidArguments(f"{endless}: needs itself, so that no answer has an end; make it optional")


def _is_valid(schema: Node, where: str) -> bool:
    """False where nobody can tell: who only enqueues may do without the library; the worker looks before it pays."""
    try:
        from jsonschema import Draft202012Validator, SchemaError
    except ModuleNotFoundError:
        return False
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
        raise InvalidArguments(f"{where}{path}: is no JSON Schema: {error.message:.200}") from None
    except (RecursionError, OverflowError) as error:  # of a pattern
        raise InvalidArguments(f"{where}: is no JSON Schema that can be read: {error!s:.200}") from None
    return True


def _resolved(schema: Node) -> Node:
    """The schema itself, where it only refers to one of its own; empty where that is nothing."""
    node: Node | None = schema
    for _ in range(_MOST_DEPTH):
        if node is None or "$ref" not in node:
            break
        node = _referred(schema, node["$ref"])
    return node or {}


def _nodes(node: Any, where: str, depth: int) -> Iterator[tuple[str, Node]]:
    """Each schema in a schema, with its path."""
    if not isinstance(node, Mapping):
        return  # true, false; what it may not be the check of the whole tells
    if depth > _MOST_DEPTH:
        raise InvalidArguments(f"{where[:200]}: is nested deeper than {_MOST_DEPTH} levels; no provider takes that")
    yield where, node
    for name in _HOLD_ONE:
        yield from _nodes(node.get(name), f"{where}.{name}", depth + 1)
    for name in _HOLD_LISTS:
        held = node.get(name)
        for place, one in enumerate(held if isinstance(held, (list, tuple)) else ()):
            yield from _nodes(one, f"{where}.{name}[{place}]", depth + 1)
    for name in _HOLD_NAMED:
        named = node.get(name)
        for key, one in (named if isinstance(named, Mapping) else {}).items():
            yield from _nodes(one, f"{where}.{name}.{key}", depth + 1)


def _faults(root: Node, node: Node) -> Iterator[str]:
    """Why nothing can be as a valid schema says; rules that are cheap to know."""
    if "$ref" in node and _referred(root, node["$ref"]) is None:
        yield f"$ref {node['$ref']!r} leads to nothing in the schema"
    if "$dynamicRef" in node:
        yield "$dynamicRef: use $ref"
    for pattern in (*([node["pattern"]] if "pattern" in node else ()), *(node.get("patternProperties") or ())):
        if refused := refused_pattern(pattern):
            yield f"pattern {pattern[:100]!r}: {refused}"
    least: Any
    most: Any
    for low, high in _RANGES:
        least, most = node.get(low), node.get(high)
        if not _is_number(least) or not _is_number(most):
            continue
        if least > most or (least == most and "exclusive" in low + high):
            yield f"{low} {least} leaves nothing up to {high} {most}"
    if node.get("not") == {} or node.get("not") is True:
        yield "not: nothing is left that an answer could be"
    choices = node.get("enum", [node["const"]] if "const" in node else None)
    if choices is not None:
        if not choices:
            yield "enum is empty"
        elif not any(_is_of(choice, node.get("type")) for choice in choices):
            yield f"no choice of it is of type {node['type']!r}"
    properties = node.get("properties") or {}
    for name in node.get("required") or ():
        if name not in properties and node.keys().isdisjoint(_OTHER_WAYS):
            yield f"{name!r} is required, and properties do not have it"
        if properties.get(name) is False:
            yield f"{name!r} is required, and may not be there"


class _Circles:
    """Finds where a schema leads back to itself for one and the same value, so that judging it has no end."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._ended: set[int] = set()

    def at(self, node: Node) -> Iterator[str]:
        if self._returns(node, frozenset()):
            yield "leads back to itself, and describes nothing; describe the value, or leave it out"

    def _returns(self, node: Any, through: frozenset[int]) -> bool:
        if not isinstance(node, Mapping) or id(node) in self._ended:
            return False
        if id(node) in through:
            return True
        if any(self._returns(one, through | {id(node)}) for one in self._same_value(node)):
            return True
        self._ended.add(id(node))
        return False

    def _same_value(self, node: Node) -> Iterator[Any]:
        """Schemas that are asked about the value that this is asked about."""
        if "$ref" in node:
            yield _referred(self._root, node["$ref"])
        yield from (node.get(name) for name in ("not", "if", "then", "else"))
        for name in ("anyOf", "oneOf", "allOf"):
            yield from node.get(name) or ()
        yield from (node.get("dependentSchemas") or {}).values()


class _Endless:
    """Finds where a schema needs itself to be filled, so that no answer has an end."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._ended: set[str] = set()

    def at(self, node: Any, where: str, through: tuple[str, ...]) -> str:
        """The path of what needs itself; empty where an answer can have an end. ``through``: references on the way."""
        if not isinstance(node, Mapping):
            return ""
        if (ref := node.get("$ref")) is not None and ref not in self._ended:
            if ref in through:
                return where
            if endless := self.at(_referred(self._root, ref), where, (*through, ref)):
                return endless
            self._ended.add(ref)
        for name in ("anyOf", "oneOf"):
            ways = [self.at(one, f"{where}.{name}[{n}]", through) for n, one in enumerate(node.get(name) or ())]
            if ways and all(ways):
                return ways[0]
        return next((found for path, one in _musts(node) if (found := self.at(one, where + path, through))), "")


def _musts(node: Node) -> Iterator[tuple[str, Any]]:
    """What must be filled where this is."""
    yield from ((f".allOf[{place}]", one) for place, one in enumerate(node.get("allOf") or ()))
    properties = node.get("properties") or {}
    yield from ((f".properties.{name}", properties.get(name)) for name in node.get("required") or ())
    if node.get("minItems"):
        yield ".items", node.get("items")


def _referred(root: Node, ref: Any) -> Node | None:
    """What a reference leads to within the schema; None: nothing."""
    if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
        return None
    found: Any = root
    for step in ref.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_of(value: Any, kinds: Any) -> bool:
    named = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(named, (list, tuple)):
        return True
    if isinstance(value, bool):
        return "boolean" in named
    return any(isinstance(value, _KINDS[kind]) for kind in named if kind in _KINDS)
