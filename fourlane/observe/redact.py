"""Takes secrets and personal data out of what is logged or reported: by the key they stand under, and by their form."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["REDACTED", "redact", "redact_text"]

REDACTED: Final = "[redacted]"
_DEEPEST: Final = 8
_LONGEST: Final = 32_768
_LONG_NUMBER: Final = 10**12

_SECRET_WORD: Final = (
    r"passw(?:or)?d|passphrase|secret|token(?!s)|api[_-]?key|(?:access|private|encryption|signing)[_-]?key|jwt|"
    r"authorization|cookie|credential|signature|session[_-]?id|dsn"
)
_PERSONAL_WORD: Final = (
    r"e[_-]?mail|phone|mobile|(?:first|last|full)[_-]?name|surname|birth|passport|street|iban|"
    r"(?:billing|shipping|home|postal)[_-]?address|address[_-]?line|(?:post|postal|zip)[_-]?code|"
    r"(?:card|account)[_-]?number|cvc|cvv|ssn|social[_-]?security|(?:tax|national)[_-]?id|ip[_-]?address"
)
_KEY: Final = re.compile(f"{_SECRET_WORD}|{_PERSONAL_WORD}", re.IGNORECASE)
_TOKENS: Final = re.compile("tokens", re.IGNORECASE)  # how many of a model, or what opens doors

_Shown = str | Callable[[re.Match[str]], str]


def _form(words: str, pattern: str, shown: _Shown, flags: int = 0) -> tuple[list[str], re.Pattern[str], _Shown]:
    return words.split(), re.compile(pattern, flags), shown


# Each form is looked for only in texts that have one of its words in them: most lines have none.
_FORMS: Final = (
    _form(
        "key-----",
        r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----)(?!\[redacted)(?s:.*?-----END[ A-Z]{1,50}-----|.*)",
        rf"\1{REDACTED}",
    ),
    _form("://", r"""://[^\s/"'<>]{1,500}@""", f"://{REDACTED}@"),
    _form(
        "cookie authorization",
        r"""((?:cookie|authorization)\s?:\s?)[^"'\s][^"'\r\n]*""",
        rf"\1{REDACTED}",
        re.IGNORECASE,
    ),
    _form("bearer basic", r"(\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}", rf"\1{REDACTED}", re.IGNORECASE),
    _form(
        "passw passphrase secret token key jwt authorization cookie credential signature session dsn",
        rf"""((?:{_SECRET_WORD})[\w-]{{0,20}}["']?\s?[=:]\s?)"""
        r"""(?:\[redacted\]|(?:bearer|basic)\s+\S+|b?"(?:[^"\\]|\\.)*"|b?'(?:[^'\\]|\\.)*'|[^\s,;&}\])]+)""",
        rf"\1{REDACTED}",
        re.IGNORECASE,
    ),
    _form(
        "sk- sk_ pk- pk_ rk- rk_ whsec_ ghp_ gho_ ghs_ ghu_ ghr_ npm_ glpat- re_ xox",
        r"\b(?:(?:sk|pk|rk)[_-][\w-]{12,}|whsec_[\w+/=-]{8,}|(?:gh[opsur]|npm)_\w{20,}|glpat-[\w-]{16,}|re_\w{16,}"
        r"|xox[a-z]-[\w-]{10,})",
        REDACTED,
    ),
    _form(
        "akia asia aiza ya29. sg. eyj",
        r"\b(?:A[KS]IA[0-9A-Z]{16}|AIza[\w-]{30,}|ya29\.[\w-]{20,}|SG\.[\w-]{16,}\.[\w-]{16,}"
        r"|eyJ[\w-]{8,}\.[\w-]{8,}\.?[\w-]*)",
        REDACTED,
    ),
    _form("@", r"(?<![\w.+%-])[\w.+%-]++(?:'[\w.+%-]++)?@[\w-]{1,63}(?:\.[\w-]{1,63})+", "[email]"),
    _form("", r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b", "[iban]"),
    _form("", r"\b[3-6]\d{3}(?:[ -]?\d){9,60}\b", lambda found: _without_cards(found[0])),
    _form("-", r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])", "[ssn]"),
    _form("+ (", r"(?<!\w)(?:\+\d(?:[ ().-]{0,2}\d){7,14}|\(\d{3}\) ?\d{3}[ -]\d{4})\b", "[phone]"),
)


def redact(value: Any, key: str = "", depth: int = 0) -> Any:
    """A copy that may be shown, of plain values only. What lies deeper than 8 levels is left out."""
    if key and value is not None and not isinstance(value, bool) and _is_secret(key, value):
        return REDACTED
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        if depth >= _DEEPEST:
            return "…"
        if isinstance(value, Mapping):
            return {redact_text(_text(k)): redact(v, _text(k), depth + 1) for k, v in value.items()}
        return [redact(v, "", depth + 1) for v in value]
    if isinstance(value, int) and abs(value) >= _LONG_NUMBER:
        shown = redact_text(str(value)) if abs(value) < _LONG_NUMBER**3 else REDACTED
        return value if shown == str(value) else shown
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return redact_text(_text(value))


def _is_secret(key: str, value: Any) -> bool:
    return bool(_KEY.search(key)) or (not isinstance(value, (int, float)) and bool(_TOKENS.search(key)))


def _text(value: Any) -> str:
    try:
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    except Exception:
        return f"<{type(value).__name__}>"


def redact_text(text: str) -> str:
    """The text without what has the form of a secret, an address, a card or a phone number."""
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + f"… ({len(text):,} characters)"
    lowered = text.lower()
    for words, pattern, shown in _FORMS:
        if not words or any(word in lowered for word in words):
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
