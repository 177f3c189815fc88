"""Secrets by what stands around them: a key and a sign, a scheme and a host, a header's name."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from fourlane.redact.form import Form, after, by_words
from fourlane.redact.keys import (
    BEGINNINGS,
    BEGUN,
    ITS_NAME,
    ITS_VALUE,
    REDACTED,
    SECRET_WORD,
    SHORT_WORD,
    is_secret,
    is_secret_short,
)
from fourlane.redact.tokens import hooks, tokens

__all__ = ["forms"]

_BLANKS: Final = r"[ \t\xa0]{0,8}"
_QUOTE: Final = r"\\*[\"']"  # in JSON that is a text of JSON, behind reverse solidi
_QUOTED: Final = (
    r'b?"(?:[^"\\]++|\\.)*+(?:"|\Z)|'
    r"b?'(?:[^'\\]++|\\.)*+(?:'|\Z)|"
    r"(?P<solidi>\\+)(?P<quote>[\"'])(?s:.)*?(?:(?<!\\)(?P=solidi)(?P=quote)|\Z)"
)
_VALUE: Final = rf"(?:\[redacted\]|(?:bearer|basic)\s+\S+|{_QUOTED}|" r"[(\[{][^()\[\]{}]{0,500}[)\]}]|[^\s,;&}\])]+)"
_IS: Final = rf"(?:{_QUOTE})?{_BLANKS}(?:=>|[:=]=|[=:]|%3[AaDd]){_BLANKS}"
_BESIDE: Final = (
    rf"{_QUOTE}{_BLANKS},\s{{0,40}}(?P<named>{_QUOTE}(?:{ITS_VALUE}){_QUOTE}{_BLANKS}:{_BLANKS})?(?=b?{_QUOTE})"
)
_BEFORE: Final = 80
_IN_PAIR: Final = re.compile(r"[(\[]\s*b?\\*[\"'][\w-]*$")
_OPTION: Final = re.compile(r"(?<![\w-])--?[\w-]*$")
_SENTENCE: Final = re.compile(
    "or|and|is|are|was|to|with|in|for|of|on|as|if|not|no|from|by|must|may|can|cannot|needs|given|takes|option|"
    "the|a|an|it|that|this|when|where|has|have|does|names|stands|character",
    re.IGNORECASE,
)
_DATABASES: Final = (
    "redis|rediss|valkey|valkeys|postgres|postgresql|mysql|mariadb|mongodb|amqp|amqps|smtp|smtps|"
    r"\+srv|\+psycopg|\+psycopg2|\+asyncpg|\+pg8000|\+pymysql|\+aiomysql"
)


@cache
def forms() -> tuple[Form, ...]:
    return (
        by_words(
            "-----begin",
            r"(-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----)(?!\[redacted)(?s:.*?-----END[ A-Z]{1,50}-----|.*)",
            rf"\1{REDACTED}",
        ),
        *_of_addresses(),
        by_words(
            "cookie authorization",
            r"""((?:cookie|authorization)\s?:\s?)[^"'\s][^"'\r\n]*""",
            rf"\1{REDACTED}",
            re.IGNORECASE,
        ),
        by_words("bearer basic", r"(\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}", rf"\1{REDACTED}", re.IGNORECASE),
        *_of_keys(),
        *tokens(),
    )


def _of_addresses() -> tuple[Form, ...]:
    """What opens them: a login, of which the password may have any sign in it, or a path that is one."""
    return (
        # Of a database, or of a mail server, an @ is nowhere else.
        by_words(
            "://",
            rf"""(?:{after(_DATABASES)})://[^\s"'<>]{{1,500}}@""",
            f"://{REDACTED}@",
            re.IGNORECASE,
        ),
        by_words("://", r"""://[^\s/"'<>]{1,500}@""", f"://{REDACTED}@"),
        # After a port a path begins, which may hold one.
        by_words("://", r"""://[^\s/:@"'<>]{0,200}:(?!\d{1,5}[/?#])[^\s"'<>@]{1,300}@""", f"://{REDACTED}@"),
        hooks(),
    )


def _of_keys() -> tuple[Form, ...]:
    return (
        by_words(
            BEGINNINGS,
            rf"(?P<key>(?:{BEGUN})[\w-]{{0,20}})(?P<sign>{_IS}|(?P<beside>{_BESIDE}))(?P<value>{_VALUE})",
            _show_keyed,
            re.IGNORECASE,
        ),
        by_words(
            "pass pwd pin auth otp bearer sig key",
            rf"(?P<key>{SHORT_WORD})(?P<sign>{_IS}|(?P<beside>{_BESIDE}))(?P<value>(?i:{_VALUE}))",
            _show_short,
        ),
        by_words(
            "--",
            rf"(?<![\w-])(?P<key>--(?P<name>[a-zA-Z][\w-]{{0,60}})[ \t]{{1,8}})(?P<value>(?!-){_VALUE})",
            _show_option,
        ),
        by_words(
            "value",
            rf"(?P<key>\bvalue{_QUOTE}{_BLANKS}:{_BLANKS})(?:{_QUOTED})"
            rf"(?P<sign>{_BLANKS},\s{{0,40}}{_QUOTE}(?:{ITS_NAME}){_QUOTE}{_BLANKS}:{_BLANKS}{_QUOTE}"
            rf"[\w-]{{0,40}}?(?:{SECRET_WORD}))",
            lambda found: f"{found['key']}{REDACTED}{found['sign']}",
            re.IGNORECASE,
        ),
    )


def _show_keyed(found: re.Match[str]) -> str:
    in_words = found["sign"].startswith(": ") and _SENTENCE.fullmatch(found["value"])
    return found[0] if in_words or not _is_of_key(found) else found["key"] + found["sign"] + REDACTED


def _show_short(found: re.Match[str]) -> str:
    value = found["value"]
    bare = value.strip("\\\"'") if value[0] not in "([{" else [value]
    in_words = "=" not in found["sign"] and not found["sign"].startswith(("\\", '"', "'"))
    hidden = _is_of_key(found) and is_secret_short(found["key"], bare, in_words=in_words)
    return found["key"] + found["sign"] + REDACTED if hidden else found[0]


def _show_option(found: re.Match[str]) -> str:
    value = found["value"].strip("\"'")
    hidden = not _SENTENCE.fullmatch(value) and is_secret(found["name"], value)
    return found["key"] + REDACTED if hidden else found[0]


def _is_of_key(found: re.Match[str]) -> bool:
    """Where no sign says so: the two are a pair, the second is told as the value of the first, or follows an option."""
    if not found["beside"] or found["named"]:
        return True
    text, start, end = found.string, found.start(), found.end()
    before = text[max(0, start - _BEFORE) : start]
    if _OPTION.search(before):
        return True
    return text[end : end + 3].lstrip()[:1] in (")", "]") and _IN_PAIR.search(before) is not None
