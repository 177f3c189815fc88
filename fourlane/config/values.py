"""What values may be, of which several groups have some: each check names the fault and the fix in our words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SecretStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from fourlane.config.folder import from_start
from fourlane.jsontext import read_json

__all__ = [
    "ApiKey",
    "Folder",
    "Item",
    "Milliseconds",
    "Percent",
    "Positive",
    "Seconds",
    "Switch",
    "ZeroOrMore",
    "at_least",
    "between",
    "json_object",
    "or_say",
]


def or_say(fault: str) -> WrapValidator:
    """A value that is not of its type is told as this."""

    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise ValueError(f"{value!r} is {fault}") from None

    return WrapValidator(check)


def at_least(least: int, most: int | None = None, *, bound: int = 1_000_000_000) -> WrapValidator:
    """``bound``: what nobody needs, and what some part could not take."""
    fix = f"use {least} or more" if most is None else f"use {least} to {most}"

    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            number = validate(value)
        except ValidationError:
            raise ValueError(f"{value!r} is not a whole number; {fix}") from None
        if number < least:
            raise ValueError(f"{value!r} is too small; {fix}")
        if most is not None and number > most:
            raise ValueError(f"{value!r} is too large; {fix}")
        if number > bound:
            raise ValueError(f"{value!r} is too large; use {least} to {bound}")
        return number

    return WrapValidator(check)


def between(least: int, most: int) -> WrapValidator:
    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            number = validate(value)
        except ValidationError:
            number = None
        if number is None or not least <= number <= most:
            raise ValueError(f"{value!r} does not fit; use a whole number from {least} to {most}")
        return number

    return WrapValidator(check)


def json_object(fix: str) -> WrapValidator:
    """A mapping, which a variable has as the text of a JSON object."""

    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, str):
            try:
                value = read_json(value, _once_each)
            except ValueError as error:
                raise ValueError(f"is not JSON: {error}; {fix}") from None
        if not isinstance(value, dict | BaseModel):
            raise ValueError(f"is not a JSON object; {fix}")
        return validate(value)

    return WrapValidator(check)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is written twice; write it once")
        found[key] = value
    return found


def _clean_key(given: Any) -> Any:
    """A key as it was meant: a file, a shell or ``echo`` put white space or quotes around it. It is never repeated."""
    text = given.get_secret_value() if isinstance(given, SecretStr) else given
    if not isinstance(text, str):
        return given
    text = text.strip().strip("\ufeff\"'").strip()
    if not text:
        raise ValueError("is empty but for white space or quotes; copy the key anew, or remove it")
    for place, character in enumerate(text, 1):
        if not "!" <= character <= "~":
            raise ValueError(f"character {place} of {len(text)} is none that a key can have; copy the key anew")
    if text.endswith("...") or text.lower() in ("changeme", "your-api-key", "your_api_key"):
        raise ValueError("stands in the place of a key; write the key, or remove it")
    return SecretStr(text)


class Item(BaseModel):
    """A value of a mapping in JSON; ``example`` is what one may look like."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    example: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, given: Any) -> Any:
        if isinstance(given, cls):
            return given
        if not isinstance(given, dict):
            raise ValueError(f"is not an object; write {cls.example}")
        if unknown := [str(name) for name in given if name not in cls.model_fields]:
            raise ValueError(f"{unknown[0]}: is not known; use {', '.join(cls.model_fields)}")
        if missing := [name for name, field in cls.model_fields.items() if field.is_required() and name not in given]:
            raise ValueError(f"has no {missing[0]}; write {cls.example}")
        return given


Positive = Annotated[int, at_least(1)]
ZeroOrMore = Annotated[int, at_least(0)]
Percent = Annotated[int, at_least(0, 100)]
Seconds = Annotated[int, at_least(0, bound=315_360_000)]
Milliseconds = Annotated[int, at_least(1, bound=315_360_000_000)]
"""Up to ten years, as ``Seconds``."""
ApiKey = Annotated[SecretStr, BeforeValidator(_clean_key)]
"""What goes to a provider in a header."""
Folder = Annotated[Path, AfterValidator(from_start)]
Switch = Annotated[bool, or_say("not a switch; use true or false")]
