"""What has the form of an address, an account, a card or a phone number."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Final

__all__ = ["without_personal"]

_Shown = str | Callable[[re.Match[str]], str]
_HOST: Final = r"[\w-]{1,63}(?:\.[\w-]{1,63})+"
_NATIONAL: Final = r"(?:1(?<![\w.-].)[.-][2-9]|[2-9](?<![\w.-].))\d{2}([.-])[2-9]\d{2}\1\d{4}(?![\w-]|\.\w)"
_NAMED_PHONE: Final = (
    r"((?<![a-z])(?:tele)?(?:phone|mobile|fax|tel)(?:[_ -]?(?:number|no|nr))?[\"']?"
    r"(?:[ \t]{0,8}[=:][ \t]{0,8}|\.? )[\"']?)"
    r"\+?\(?\d(?:[ ().\/-]{0,2}\d){5,17}"
)


@cache
def _forms() -> tuple[tuple[tuple[str, ...], re.Pattern[str], _Shown], ...]:
    """Each with signs of which it has one: most lines have none, and are not searched."""
    return (
        (("@",), re.compile(rf"(?<![\w.+%-])[\w.+%-]++(?:'[\w.+%-]++)?@{_HOST}"), "[email]"),
        # As a part of a URL, in which it may stand twice escaped.
        (
            ("%40", "%2540"),
            re.compile(rf"(?<![\w.+-])(?:[\w.+-]|%(?:25)?(?:2[bBdDeE]|5[fF]))++%(?:25)?40{_HOST}"),
            "[email]",
        ),
        ((), re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"), "[iban]"),
        ((), re.compile(r"\b[3-6]\d{3}(?:[ -]?\d){9,60}\b"), lambda found: _without_cards(found[0])),
        (("-",), re.compile(r"\d(?<![\w-].)\d{2}-\d{2}-\d{4}(?![\w-])"), "[ssn]"),
        (("+", "("), re.compile(r"(?<!\w)(?:\+\d(?:[ ().-]{0,2}\d){7,14}|\(\d{3}\) ?\d{3}[ -]\d{4})\b"), "[phone]"),
        # National ones have the form of many other numbers: those of North America have signs between, where areas
        # begin with 2 to 9; others are known by the word before them.
        (("-", "."), re.compile(_NATIONAL), "[phone]"),
        (
            ("hone", "mobile", "Mobile", "fax", "Fax", "tel", "Tel"),
            re.compile(_NAMED_PHONE, re.IGNORECASE),
            r"\1[phone]",
        ),
    )


def without_personal(text: str) -> str:
    for signs, pattern, shown in _forms():
        if not signs or any(sign in text for sign in signs):
            text = pattern.sub(shown, text)
    return text


def _without_cards(text: str) -> str:
    """Numbers stand side by side, with spaces in them or between them: look at each run that may be a card."""
    groups = re.split("([ -])", text)
    for first in range(0, len(groups), 2):
        for end in range(len(groups), first, -2):
            if _is_card("".join(groups[first:end:2])):
                return "".join(groups[:first]) + "[card]" + _without_cards("".join(groups[end:]))
    return text


def _is_card(digits: str) -> bool:
    """By Luhn's check digit, which most other long numbers fail."""
    if not 13 <= len(digits) <= 19 or digits[0] not in "3456":
        return False
    numbers = [int(c) for c in reversed(digits)]
    return (sum(numbers[::2]) + sum(2 * d - 9 * (d > 4) for d in numbers[1::2])) % 10 == 0
