"""Secrets by the key that they stand under.

Long words make a key secret wherever they stand in it. Short ones are words of other things too: they do at its end,
and where the value is not an ordinary one.
"""

from __future__ import annotations

import re
from typing import Any, Final

from fourlane.redact.form import after

__all__ = [
    "BEGINNINGS",
    "BEGUN",
    "ITS_NAME",
    "ITS_VALUE",
    "REDACTED",
    "SECRET_WORD",
    "SHORT_WORD",
    "is_mixed",
    "is_nothing",
    "is_number_of_tokens",
    "is_secret",
    "is_secret_short",
]

REDACTED: Final = "[redacted]"

_OF_KEYS: Final = (
    "api|access|private|encryption|signing|secret|master|auth|account|shared|service|role|anon|routing|integration"
)
_WORDS: Final = (
    r"passw(?:or)?d|passphrase|passcode|secret(?!ar(?:y|i))|token(?!s|i[sz])|jwt|"
    r"authorization|cookie|credential|signature|session[_-]?id|dsn|cvc|cvv"
)
SECRET_WORD: Final = rf"{_WORDS}|(?:{_OF_KEYS})[_-]?key"
BEGINNINGS: Final = (
    "passw passphrase passcode secret token jwt authorization cookie credential signature session dsn cvc cvv key"
)
"""Of the words, in small letters; ``key`` with what stands before it, which is looked back at."""
BEGUN: Final = rf"{_WORDS}|tokens|(?:{after(_OF_KEYS)}|{after(_OF_KEYS, '[_-]')})key"
_PERSONAL_WORD: Final = (
    r"e[_-]?mail|phone|mobile|(?:first|last|full)[_-]?name|surname|birth|passport|street|iban|"
    r"(?:billing|shipping|home|postal)[_-]?address|address[_-]?line|(?:post|postal|zip)[_-]?code|"
    r"(?:card|account)[_-]?number|ssn|social[_-]?security|(?:tax|national)[_-]?id|ip[_-]?address"
)
_KEY: Final = re.compile(f"{SECRET_WORD}|{_PERSONAL_WORD}", re.IGNORECASE)
_TOKENS: Final = re.compile("tokens", re.IGNORECASE)  # how many of a model, or what opens doors
_OF_MODEL: Final = re.compile(
    "(?<![a-z])(?:max|min|num|n|total|input|output|prompt|completion|reasoning|thinking|cached|used|left|special|stop)[_-]$",
    re.IGNORECASE,
)
_NAME_WITHIN: Final = re.compile(r"\\*[\"'][\w-]{1,60}\\*[\"']\s{0,8}:")
_LETTER: Final = re.compile(r"[^\W\d_](?<![kKM])")
_NOTHING: Final = re.compile("none|null|nil|true|false", re.IGNORECASE)

# `db_pass`, `userPin` and `x-auth`, but neither `compass` nor `pass_rate`; `key` stands alone, or in a word above.
SHORT_WORD: Final = (
    r"(?:(?:(?<![a-zA-Z])|(?<=[a-z])(?=[A-Z]))(?i:pass|pwd|pin|auth|otp|bearer|sig)|(?<![\w-])(?i:key))(?![a-zA-Z])"
)
_SHORT: Final = re.compile(rf"({SHORT_WORD})$")
_PLAINLY: Final = frozenset(("pass", "pwd", "bearer"))
"""Nearly always of a secret: only what is plainly ordinary is shown."""
_NUMBERS: Final = frozenset(("pin", "otp"))
_HOLDERS: Final = frozenset(("auth", "bearer"))
_ORDINARY: Final = re.compile(
    "true|false|yes|no|on|off|none|null|nil|ok|fail|failed|failure|passed|ready|done|error|required|optional|unknown|"
    "missing|expired|invalid|default|basic|digest|bearer|oauth|oauth2|ntlm|ldap|saml|mtls",
    re.IGNORECASE,
)
_PATH: Final = re.compile(r"\.{0,2}[/\\]|[A-Za-z]:\\|~/")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_MIXED: Final = re.compile(r"(?=[^-_]*[a-zA-Z])(?=[^-_]*[0-9!@#$%^&*+=~?])[^-_\s:/.,\\]+")

ITS_NAME: Final = "name|key|header|field|k"
"""Under what a key stands that is told as a value, with its own beside it under ``ITS_VALUE``."""
ITS_VALUE: Final = "value|val|v|input|content"


def is_secret(key: str, value: Any) -> bool:
    """Whether what stands under the key is not for others to see."""
    if _KEY.search(key):
        return True
    if not isinstance(value, (int, float)) and _TOKENS.search(key):
        return True
    short = _SHORT.search(key)
    return short is not None and is_secret_short(short[1], value)


def is_secret_short(word: str, value: Any, *, in_words: bool = False) -> bool:
    """The same of a short word at a key's end. ``in_words``: they stand in a sentence, and not in data."""
    word = word.lower()
    if isinstance(value, (int, float)):
        return word in _NUMBERS and value >= 1_000
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if not isinstance(value, str):
        return word in _HOLDERS
    value = value.strip()
    if _ORDINARY.fullmatch(value) or _UUID.fullmatch(value):
        return False
    if word in _PLAINLY and not in_words:
        return not (_PATH.match(value) or (len(value) < 4 and value.isalnum()))
    return is_mixed(value) or (word in _NUMBERS and value.isdecimal() and 4 <= len(value) <= 8)


def is_nothing(value: str) -> bool:
    """Whether what stands in a text says that there is none."""
    return _NOTHING.fullmatch(value.strip("\\\"'")) is not None


def is_number_of_tokens(before: str, value: str) -> bool:
    """Whether tokens in a text are a model's: by what stands before the word, or by numbers that stand under it."""
    return _OF_MODEL.search(before) is not None or not _LETTER.search(_NAME_WITHIN.sub("", value).replace("None", ""))


def is_mixed(text: str) -> bool:
    """Letters and other signs within one word, as passwords have them and names do not."""
    if len(text) < 6 or any(sign in text for sign in " :/,\\"):
        return False
    return any(_MIXED.fullmatch(part) for part in re.split("[-_.]", text))
