"""Takes secrets and personal data out of what is logged or reported: by the key they stand under, and by their form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["REDACTED", "redact", "redact_text"]

REDACTED: Final = "[redacted]"
_DEEPEST: Final = 8
_LONGEST: Final = 32_768

_SECRET_WORD: Final = (
    r"passw(?:or)?d|passphrase|secret|token(?!s)|api[_-]?key|access[_-]?key|private[_-]?key|authorization|cookie|"
    r"credential|signature|session[_-]?id|dsn"
)
_PERSONAL_WORD: Final = (
    r"e[_-]?mail|phone|mobile|first[_-]?name|last[_-]?name|full[_-]?name|birth|address_line|street|iban|"
    r"card[_-]?number|cvc|cvv|ssn|tax[_-]?id|ip[_-]?address"
)
_KEY: Final = re.compile(f"{_SECRET_WORD}|{_PERSONAL_WORD}", re.IGNORECASE)

_FORMS: Final = re.compile(
    rf"""
    (?P<url>\b[a-z][a-z0-9+.-]{{1,20}}://)[^\s/@]{{1,500}}@
    | (?P<bearer>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{{8,}}
    | (?P<keyed>["']?[\w-]{{0,40}}(?:{_SECRET_WORD})[\w-]{{0,20}}["']?\s?[=:]\s?)
      (?:(?:bearer|basic)\s+\S+|"[^"]*"|'[^']*'|[^\s,;&}}\])]+)
    | (?P<key>\b(?:sk|pk|rk)[_-][A-Za-z0-9_-]{{12,}}|\bwhsec_[A-Za-z0-9+/=_-]{{8,}}|\bAKIA[0-9A-Z]{{16}}
      |\bAIza[\w-]{{30,}}|\bgh[a-z]_\w{{20,}}|\bre_\w{{16,}}|\beyJ[\w-]{{8,}}\.[\w-]{{8,}}\.?[\w-]*)
    | (?P<email>[\w.+-]{{1,64}}@[\w-]{{1,63}}(?:\.[\w-]{{1,63}})+)
    | (?P<iban>\b[A-Z]{{2}}\d{{2}}(?:\ ?[A-Z0-9]{{4}}){{2,7}}(?:\ ?[A-Z0-9]{{1,4}})?\b)
    | (?P<card>\b[3-6]\d{{3}}(?:[ -]?\d){{10,15}}\b)
    | (?P<phone>(?<!\w)\+\d(?:[ ()-]{{0,2}}\d){{7,14}}\b)
    """,
    re.VERBOSE | re.IGNORECASE,
)


def redact(value: Any, key: str = "", depth: int = 0) -> Any:
    """A copy that may be shown."""
    if key and _KEY.search(key) and value is not None and not isinstance(value, bool):
        return REDACTED
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return {str(k): redact(v, str(k), depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)) and depth < _DEEPEST:
        return [redact(v, "", depth + 1) for v in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return redact_text(str(value))


def redact_text(text: str) -> str:
    """The text without what has the form of a secret, an address, a card or a phone number."""
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + f"… ({len(text):,} characters)"
    return _FORMS.sub(_hide, text)


def _hide(found: re.Match[str]) -> str:
    kind = found.lastgroup
    if kind == "url":
        return found["url"] + REDACTED + "@"
    if kind in ("bearer", "keyed"):
        return found[kind] + REDACTED
    if kind == "card" and not _is_card(found[0]):
        return found[0]
    if kind == "iban" and not found[0][:2].isupper():
        return found[0]
    return REDACTED if kind == "key" else f"[{kind}]"


def _is_card(text: str) -> bool:
    """By Luhn's check digit, which most other long numbers fail."""
    digits = [int(c) for c in text if c.isdigit()][::-1]
    odd, even = digits[::2], digits[1::2]
    return (sum(odd) + sum(2 * d - 9 * (d > 4) for d in even)) % 10 == 0
