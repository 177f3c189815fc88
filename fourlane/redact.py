"""Takes secrets out of what is kept of errors, and personal data too out of what is logged or reported.

They are known by their form, by the key they stand under, and by their value where this process was told it (``know``).
A text is looked through in time that grows with its length, for which there is a bound.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple
from urllib.parse import quote, quote_plus

__all__ = ["REDACTED", "know", "redact", "redact_text", "without_secrets"]

REDACTED: Final = "[redacted]"
_DEEPEST: Final = 8
_LONGEST: Final = 32_768
_LONG_NUMBER: Final = 10**12
_SHORT: Final = 8
_WORD: Final = 20

_OF_KEYS: Final = "api|access|private|encryption|signing"
_SECRET_WORD: Final = (
    rf"passw(?:or)?d|passphrase|secret|token(?!s)|(?:{_OF_KEYS})[_-]?key|jwt|"
    r"authorization|cookie|credential|signature|session[_-]?id|dsn"
)
_PERSONAL_WORD: Final = (
    r"e[_-]?mail|phone|mobile|(?:first|last|full)[_-]?name|surname|birth|passport|street|iban|"
    r"(?:billing|shipping|home|postal)[_-]?address|address[_-]?line|(?:post|postal|zip)[_-]?code|"
    r"(?:card|account)[_-]?number|cvc|cvv|ssn|social[_-]?security|(?:tax|national)[_-]?id|ip[_-]?address"
)
_KEY: Final = re.compile(f"{_SECRET_WORD}|{_PERSONAL_WORD}", re.IGNORECASE)
_TOKENS: Final = re.compile("tokens", re.IGNORECASE)  # how many of a model, or what opens doors


class _Form(NamedTuple):
    """What a secret looks like from one of the words on that it begins with; ``shown``: what stands there instead."""

    words: tuple[str, ...]
    pattern: re.Pattern[str]
    shown: str


def _form(words: str, pattern: str, shown: str, flags: int = 0) -> _Form:
    return _Form(tuple(words.split()), re.compile(pattern, flags), shown)


_KEYS: Final = " ".join(f"{of}{by}key" for of in _OF_KEYS.split("|") for by in ("", "-", "_"))


# Made when the first text is looked at: a program that only enqueues has none.
@cache
def _secrets() -> tuple[_Form, ...]:
    return (
        _form(
            "-----begin",
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
            f"passw passphrase secret token jwt authorization cookie credential signature session dsn {_KEYS}",
            rf"""((?:{_SECRET_WORD})[\w-]{{0,20}}["']?\s?[=:]\s?)"""
            r"""(?:\[redacted\]|(?:bearer|basic)\s+\S+|b?"(?:[^"\\]|\\.)*"|b?'(?:[^'\\]|\\.)*'|[^\s,;&}\])]+)""",
            rf"\1{REDACTED}",
            re.IGNORECASE,
        ),
        _form("sk- sk_ rk- rk_ pplx-", r"\b(?:sk|rk|pplx)[_-][\w-]{12,}", REDACTED),
        _form("pk_live pk_test", r"\bpk_(?:live|test)_[\w-]{8,}", REDACTED),  # pk_orders is a constraint of a table
        _form("whsec_", r"\b\w{6}[\w+/=-]{8,}", REDACTED),
        _form("ghp_ gho_ ghs_ ghu_ ghr_ npm_", r"\b\w{24,}", REDACTED),
        _form("glpat- re_ xox", r"\b(?:glpat-[\w-]{16,}|re_(?=\w*\d)\w{16,}|xox[a-z]-[\w-]{10,})", REDACTED),
        _form("akia asia", r"\bA[KS]IA[0-9A-Z]{16}", REDACTED),
        _form("aiza ya29. sg.", r"\b(?:AIza[\w-]{30,}|ya29\.[\w-]{20,}|SG\.[\w-]{16,}\.[\w-]{16,})", REDACTED),
        _form("eyj", r"\beyJ[\w-]{8,}\.[\w-]{8,}\.?[\w-]*", REDACTED),
    )


_Shown = str | Callable[[re.Match[str]], str]


@cache
def _personal() -> tuple[tuple[str, re.Pattern[str], _Shown], ...]:
    """Each with signs of which it has one: most lines have none, and are not searched."""
    return (
        ("@", re.compile(r"(?<![\w.+%-])[\w.+%-]++(?:'[\w.+%-]++)?@[\w-]{1,63}(?:\.[\w-]{1,63})+"), "[email]"),
        ("", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"), "[iban]"),
        ("", re.compile(r"\b[3-6]\d{3}(?:[ -]?\d){9,60}\b"), lambda found: _without_cards(found[0])),
        ("-", re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"), "[ssn]"),
        ("+(", re.compile(r"(?<!\w)(?:\+\d(?:[ ().-]{0,2}\d){7,14}|\(\d{3}\) ?\d{3}[ -]\d{4})\b"), "[phone]"),
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
    """The text without secrets, and without what has the form of an address, a card or a phone number."""
    text = without_secrets(text)
    for signs, pattern, shown in _personal():
        if not signs or any(sign in text for sign in signs):
            text = pattern.sub(shown, text)
    return text


def without_secrets(text: str) -> str:
    """The text without what is known to be a secret, or has the form of one."""
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + f"… ({len(text):,} characters)"
    for value in _known:
        if value in text:
            text = text.replace(value, REDACTED)
    lowered = _lowered(text)
    for form in _secrets():
        places = [place for word in form.words if word in lowered for place in _places(lowered, word)]
        if places and (shown := _without(form, text, sorted(places))) != text:
            text, lowered = shown, _lowered(shown)
    return text


def _without(form: _Form, text: str, places: list[int]) -> str:
    parts, end = [], 0
    for place in places:
        found = form.pattern.match(text, place) if place >= end else None
        if found:
            parts += [text[end:place], found.expand(form.shown)]
            end = found.end()
    return "".join([*parts, text[end:]])


def _places(text: str, word: str) -> Iterator[int]:
    place = text.find(word)
    while place >= 0:
        yield place
        place = text.find(word, place + 1)


def _lowered(text: str) -> str:
    """In small letters, each where it was: there are letters that become two."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def know(values: Iterable[str]) -> None:
    """Secrets of this process: in whatever form they stand in a text, they are taken out from now on.

    What may be a word of other texts is not: short ones, and letters alone.
    """
    global _known
    given = {*values}
    told = given | {value.strip() for value in given}
    forms = {form for value in told if _is_no_word(value.strip()) for form in _spelled(value)}
    if not forms <= {*_known}:
        _known = tuple(sorted({*_known, *forms}, key=len, reverse=True))  # one may be part of another


_known: tuple[str, ...] = ()


def _is_no_word(value: str) -> bool:
    return len(value) >= _WORD or (len(value) >= _SHORT and not value.isalpha())


def _spelled(value: str) -> set[str]:
    """As it stands in a message, a repr, JSON, a URL."""
    escaped = {value, repr(value)[1:-1], repr(value.encode())[2:-1], json.dumps(value)[1:-1]}
    return escaped | {quote(value), quote(value, safe=""), quote_plus(value)}


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
