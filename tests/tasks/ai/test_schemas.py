"""Schemas: those that no model can fill are known before anything is paid; what an answer holds of one."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from fourlane.errors import InvalidArguments
from fourlane.tasks.ai.text.schemas import check_schema
from fourlane.tasks.ai.text.structured import Misfit, wanted


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


DEEP: dict[str, Any] = {"type": "object"}
for _ in range(60):
    DEEP = of(a=DEEP)
NODE = {
    "type": "object",
    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}},
    "required": ["next"],
}

SLOW = r"^([a-zA-Z0-9_.-]+)+@example.com$"
CHAIN = {str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(3_000)} | {"3000": {"type": "null"}}
CIRCLE = {"type": "object", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}}

GOOD = [
    of(
        day={"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
        mail={"pattern": r"^[A-Za-z0-9_.+-]{1,64}@[a-z.-]{1,255}$"},
    ),
    of(name={"type": "string"}, age={"type": "integer", "minimum": 0, "maximum": 0}),
    {"$ref": "#/$defs/n", "$defs": {"n": NODE}},  # a list has an end
    {"type": "object", "properties": {"again": {"$ref": "#"}}},  # not required
    of(kind={"enum": ["a", None], "type": ["string", "null"]}),
    {"type": "object", "required": ["x"], "allOf": [{"properties": {"x": {"type": "string"}}}]},
]


@pytest.mark.parametrize("schema", GOOD)
def test_what_can_be_filled(schema: Any) -> None:
    check_schema(schema)


BAD = [
    ("text", "schema: a JSON Schema, not str"),
    (of(a={"default": {1, 2}}), "schema.properties.a.default: builtins.set cannot be carried as JSON"),
    ({}, "its root is an object"),
    ({"type": "array", "items": {}}, "its root is an object"),
    ({"type": "objekt"}, "schema.type: is no JSON Schema"),
    (of(a={"type": "string", "minLength": "x"}), r"schema.properties.a.minLength: is no JSON Schema"),
    (of(a={"enum": []}), "schema.properties.a: enum is empty"),
    (of(a={"enum": [1, 2], "type": "string"}), "schema.properties.a: no choice of it is of type 'string'"),
    (of(a={"const": True, "type": "integer"}), "no choice of it"),
    (of(a={"minimum": 3, "maximum": 2}), "minimum 3 leaves nothing up to maximum 2"),
    (of(a={"exclusiveMinimum": 2, "maximum": 2}), "exclusiveMinimum 2 leaves nothing"),
    (of(a={"type": "array", "items": {"minLength": 5, "maxLength": 4}}), "schema.properties.a.items: minLength 5"),
    ({"type": "object", "properties": {}, "required": ["a"]}, "schema: 'a' is required, and properties do not have it"),
    (of(a={"not": {}}), "not: nothing is left"),
    (of(a=False), "'a' is required, and may not be there"),
    (of(a={"$ref": "#/$defs/none"}), r"schema.properties.a: \$ref '#/\$defs/none' leads to nothing"),
    (of(a={"$ref": "https://example.com/s.json"}), "leads to nothing in the schema"),
    (of(a={"$ref": "#"}), "needs itself"),
    ({"$ref": "#/$defs/n", "$defs": {"n": of(next={"$ref": "#/$defs/n"})}}, "needs itself"),
    (of(a={"type": "array", "minItems": 1, "items": {"$ref": "#"}}), "needs itself"),
    (of(a={"pattern": "("}), "pattern: is no JSON Schema"),
    (of(a={"pattern": "(?=x)"}), "a: pattern .*look-around.*write one without look-around"),
    (of(a={"pattern": r"(x)\1"}), "pattern .*backreferences"),
    (of(a={"patternProperties": {"(?!x)": True}}), "pattern .*look-around"),
    (of(a={"pattern": "((a{100}){100}){5}"}), "pattern .* is too large"),
    (of(a={"pattern": r"\w{1,600}"}), "pattern .* is too large"),
    (of(a={"pattern": "a" * 2_000}), "is too large"),
    (of(a={"pattern": "(" * 900 + ")" * 900}), "is no JSON Schema that can be read"),
    (of(a={"pattern": "a{99999999999}"}), "schema: is no JSON Schema that can be read"),
    (of(a={"unevaluatedProperties": False, "patternProperties": {"x": True}}), "use additionalProperties"),
    (of(a={"$dynamicRef": "#"}), "use \\$ref"),
    (CIRCLE | {"properties": {"a": {"$ref": "#/$defs/a"}}}, "leads back to itself"),
    (of(a={"$ref": "#/x/y"}) | {"x": {"y": {"pattern": SLOW}}}, "leads to what is no schema; put it into"),
    (of(a={"$id": "https://example.com/a"}), r"\$id changes where references lead"),
    (of(a={"$ref": "#/$defs/0"}) | {"$defs": CHAIN}, "its references lead too deep"),
    (CIRCLE, r"defs.a: leads back to itself"),
    (of(a={"$ref": "#/$defs/m"}) | {"$defs": {"m": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/m"}]}}}, "back to"),
    (DEEP, "nested deeper than 50"),
]


@pytest.mark.parametrize(("schema", "words"), BAD)
def test_what_no_model_can_fill(schema: Any, words: str) -> None:
    with pytest.raises(InvalidArguments, match=words):
        check_schema(schema)


SCHEMA = of(city={"type": "string"}, days={"type": "integer"})
HOLDS = [
    '{"city": "Rome", "days": 3}',
    '\n```json\n{"city": "Rome", "days": 3}\n```\n',
    'Here it is:\n```\n{"city": "Rome", "days": 3}\n```\nThat is all.',
    'Sure! {"city": "Rome", "days": 3} Anything else?',
]


@pytest.mark.parametrize("text", HOLDS)
def test_what_an_answer_holds(text: str) -> None:
    want = wanted(SCHEMA)
    assert want is not None
    assert want.read(text) == {"city": "Rome", "days": 3}


MISFITS = [
    ("", "is no JSON: it is empty"),
    ("Rome, 3 days", "is no JSON"),
    ('{"city": "Rome", "days": 3', "is no JSON"),
    ('{"city": "Rome", "days": NaN}', "is no JSON"),
    ('{"city": "Rome"}', r"\$: 'days' is a required property"),
    ('{"city": "Rome", "days": "3"}', r"\$.days: '3' is not of type 'integer'"),
    ("[" * 100_000, "is no JSON"),
]


@pytest.mark.parametrize(("text", "words"), MISFITS)
def test_what_does_not_fit(text: str, words: str) -> None:
    want = wanted(SCHEMA)
    assert want is not None
    with pytest.raises(Misfit, match=words):
        want.read(text)


class Trip(BaseModel):
    city: str
    days: int

    @field_validator("days")
    @classmethod
    def _some(cls, days: int) -> int:
        if days > 9:
            raise ValueError("too long a trip")
        return days


def test_a_model_has_rules_of_its_own() -> None:
    want = wanted(Trip)
    assert want is not None
    assert want.read('{"city": "Rome", "days": 3}') == {"city": "Rome", "days": 3}
    with pytest.raises(Misfit, match=r"\$.days: Value error, too long a trip"):
        want.read('{"city": "Rome", "days": 30}')


def test_a_class_that_is_no_model() -> None:
    with pytest.raises(InvalidArguments, match="not the class dict"):
        wanted(dict)


TREE = of(a={"$ref": "#/$defs/n"}) | {
    "$defs": {"n": {"anyOf": [of(n={"$ref": "#/$defs/n"}), of(n={"$ref": "#/$defs/n"}), {"type": "null"}]}}
}
NESTED = '{"a": ' + '{"n": ' * 60 + "1" + "}" * 61
SLOW_TO_JUDGE = [
    (of(a={"pattern": SLOW}), '{"a": "' + "a" * 50_000 + '"}', "does not match"),
    (of(a={"patternProperties": {SLOW: False}}), '{"a": {"' + "a" * 48 + '": 1}}', ""),
    (
        of(a={"patternProperties": {SLOW: True}, "additionalProperties": False}),
        '{"a": {"' + "a" * 48 + '": 1}}',
        r"\$.a: Additional properties are not allowed",
    ),
    (of(a={"uniqueItems": True}), '{"a": [' + "[{}, 1], " * 3_000 + "1]}", "has an item twice"),
    (of(a={"uniqueItems": True}), '{"a": [' + ", ".join(f'{{"b": {n}}}' for n in range(20_000)) + "]}", ""),
    (of(a={"uniqueItems": True}), '{"a": [1, true, "1", [1], [true], {"b": 1}, null]}', ""),
    (of(a={"uniqueItems": True}), '{"a": [1, 1.0]}', "has an item twice"),
    (TREE, NESTED, "too large, or nested too deep"),
]


class Older(BaseModel):
    model_config = ConfigDict(regex_engine="python-re")
    mail: str = Field(pattern=SLOW)


class Compiled(BaseModel):
    mail: str = Field(pattern=re.compile(SLOW))


class Holding(BaseModel):
    olds: list[Older]


@pytest.mark.parametrize("model", [Older, Compiled, Holding])
def test_a_model_whose_patterns_may_take_for_ever(model: type[BaseModel]) -> None:
    with pytest.raises(InvalidArguments, match=r"schema: .* by Python's re"):
        wanted(model)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("schema", "text", "words"), SLOW_TO_JUDGE)
def test_judging_has_an_end(schema: Any, text: str, words: str) -> None:
    want = wanted(schema)
    assert want is not None
    if not words:
        want.read(text)
        return
    with pytest.raises(Misfit, match=words):
        want.read(text)


def test_an_answer_that_is_nested_too_deep_does_not_fit() -> None:
    want = wanted({"type": "object", "properties": {"n": {"$ref": "#"}}})
    assert want is not None
    with pytest.raises(Misfit, match="nested too deep"):
        want.read('{"n": ' * 500 + "{}" + "}" * 500)
