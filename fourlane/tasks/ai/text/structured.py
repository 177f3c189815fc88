"""Answers that keep a schema: what is wanted, and what an answer holds of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import msgspec

from fourlane.errors import FourlaneError, InvalidArguments, Reject
from fourlane.tasks.ai.text.judging import TooMuch, faults_of
from fourlane.tasks.ai.text.schemas import check_schema

__all__ = ["Misfit", "Wanted", "corrected", "wanted"]

_MOST_FAULTS: Final = 10
_FENCED: Final = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL | re.IGNORECASE)


class Misfit(FourlaneError):
    """An answer does not keep the schema; in each line of it a fault with its path."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A JSON Schema that an answer shall keep; ``model``: the pydantic model that it was taken from, with its rules."""

    schema: Mapping[str, Any]
    model: Any = None

    def check_ready(self) -> None:
        """Raises Reject: this process could not judge an answer. To be asked before it is paid."""
        try:
            import jsonschema  # noqa: F401
        except ModuleNotFoundError:
            raise Reject("schema= needs the package jsonschema; pip install 'fourlane[ai]'") from None

    def read(self, text: str) -> Any:
        """What an answer holds. Raises Misfit."""
        value = _json_of(text)
        try:
            faults = list(islice(faults_of(self.schema, value), _MOST_FAULTS))
            if not faults and self.model is not None:
                faults = _faults_by_model(self.model, value)
        except (TooMuch, RecursionError):
            raise Misfit("$: is too large, or nested too deep, to be judged; answer with less") from None
        if faults:
            raise Misfit("\n".join(faults[:_MOST_FAULTS]))
        return value


def wanted(schema: Any) -> Wanted | None:
    """What ``schema=`` asks for. Raises InvalidArguments."""
    if schema is None:
        return None
    if not isinstance(schema, type):
        check_schema(schema)
        return Wanted(schema)
    # By its method, and not its base: who only enqueues does not load pydantic.
    if not hasattr(schema, "model_json_schema"):
        raise InvalidArguments(f"schema: a JSON Schema or a pydantic model, not the class {schema.__name__}")
    model: Any = schema
    described = model.model_json_schema()
    check_schema(described)
    if _uses_re(model.__pydantic_core_schema__):
        raise InvalidArguments(
            f"schema: {schema.__name__} judges texts by Python's re, which may take for ever; "
            "give pattern= a text, and leave regex_engine='python-re' out"
        )
    return Wanted(described, schema)


def _uses_re(node: Any) -> bool:
    """Whether pydantic judges by Python's ``re``, whose patterns go back and forth in a text."""
    if isinstance(node, (list, tuple)):
        return any(map(_uses_re, node))
    if not isinstance(node, Mapping):
        return False
    if node.get("regex_engine") == "python-re" or isinstance(node.get("pattern"), re.Pattern):
        return True
    return any(map(_uses_re, node.values()))


def corrected(faults: str) -> str:
    """What a model is told of an answer that does not fit."""
    return f"That answer does not keep the JSON Schema:\n{faults}\nAnswer once more: the whole JSON and nothing else."


def _json_of(text: str) -> Any:
    """The JSON of an answer; words around it, which models without a mode for it like to write, are left out."""
    fault = "it is empty"
    for candidate in _candidates(text):
        try:
            return msgspec.json.decode(candidate)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            fault = str(error)
    raise Misfit(f"$: is no JSON: {fault}")


def _candidates(text: str) -> Sequence[str]:
    """Where the JSON may lie, the likeliest first; the last is what the fault is told of."""
    whole = text.strip()
    fenced = [match.strip() for match in _FENCED.findall(whole)]
    begin, end = whole.find("{"), whole.rfind("}")
    inner = [whole[begin : end + 1]] if 0 <= begin < end else []
    return [one for one in (whole, *fenced, *inner) if one]


def _faults_by_model(model: Any, value: Any) -> list[str]:
    from pydantic import ValidationError

    try:
        model.model_validate(value)
    except ValidationError as error:
        return [
            f"${''.join(f'[{step}]' if isinstance(step, int) else f'.{step}' for step in fault['loc'])}: {fault['msg']}"
            for fault in error.errors()
        ]
    return []
