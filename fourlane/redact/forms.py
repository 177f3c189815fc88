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
    is_mixed,
    is_nothing,
    is_number_of_tokens,
    is_secret,
    is_secret_short,
)
from fourlane.redact.tokens import hooks, tokens

__all__ = ["forms"]

_BLANKS: Final = r"(?:[ \t\xa0]|\\{1,4}(?:xa0|u00a0|t)){0,8}"
_ENTITY: Final = "&(?:quot|apos|#34|#39);"
_QUOTE: Final = rf"(?:\\*[\"']|{_ENTITY})"  # in JSON that is a text of JSON, behind reverse solidi
# In a repr of a repr two solidi stand before a quote that closes nothing: no sign that ends a value follows it.
_QUOTED: Final = (
    r'b?"(?:[^"\\]++|\\\\"(?=[^\s,;:.)}\]&<>"\'\\])|\\.)*+(?:"|\Z)|'
    r"b?'(?:[^'\\]++|\\\\'(?=[^\s,;:.)}\]&<>\"'\\])|\\.)*+(?:'|\Z)|"
    rf"(?P<entity>{_ENTITY})(?s:.)*?(?:(?P=entity)|\Z)|"
    r"(?P<solidi>\\+)(?P<quote>[\"'])(?s:.)*?(?:(?<!\\)(?P=solidi)(?P=quote)|\Z)"
)
_SCHEMES: Final = (
    r"(?:bearer|basic|token|apikey|negotiate|ntlm)\s+[^\s\"']+|"
    r"(?:digest|hawk|oauth|signature|aws4-hmac-sha256)[ \t]+\w+=[^\r\n]*"
)
_VALUE: Final = rf"(?:\[redacted\]|{_SCHEMES}|{_QUOTED}|" r"[(\[{][^()\[\]{}]{0,500}[)\]}]|[^\s,;&}\])]+)"
_LINE: Final = r"(?:\r?\n|\\{1,4}(?:r\\{1,4})?n)"
# In YAML on the next line, in a table of two columns, or where an arrow stands between: as words do too.
_LOOSE: Final = (
    rf"{_BLANKS}(?:->|\|{{1,2}}(?=[^|\r\n]{{0,200}}(?:[\r\n]|\Z))|"
    rf":{_BLANKS}(?:[|>][+-]?)?{_LINE}[ \t]{{1,40}}(?:- )?){_BLANKS}"
)
# As an attribute beside the name, as what the element of that name holds, or as a part of a form.
_NAMED_SO: Final = (
    rf"{_QUOTE}(?:\s{{1,40}}(?:{ITS_VALUE})\s?=\s?|\s?>|{_LINE}(?:content-[^\r\n\\]{{1,100}}{_LINE})?{_LINE})"
)
_IS: Final = (
    rf"(?:{_NAMED_SO}|(?P<loose>(?:{_QUOTE})?{_LOOSE})|"
    rf"(?:{_QUOTE})?{_BLANKS}(?:=>|[:=]=|[=:]|%3[AaDd]|&#(?:61|x3[dD]|58|x3[aA]);){_BLANKS})"
)
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
        *_of_headers(),
        by_words("bearer basic", r"(\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}", rf"\1{REDACTED}", re.IGNORECASE),
        *_of_keys(),
        *tokens(),
    )


def _of_headers() -> tuple[Form, ...]:
    """To the line's end, or to where a quote ends that is opened before the name: there are quotes in them too."""
    name = r"((?:cookie|authorization)\s?:\s?)"
    bare = "".join(rf"(?<![\"']{prefix})" for prefix in ("", "set-", "proxy-"))
    within = [
        rf"(?:(?<={quote})|(?<={quote}set-)|(?<={quote}proxy-)){name}(?:[^{quote}\\\r\n]|\\.)+" for quote in "\"'"
    ]
    return tuple(
        by_words("cookie authorization", pattern, rf"\1{REDACTED}", re.IGNORECASE)
        for pattern in (*within, rf"{bare}{name}[^\s\"'][^\r\n]*")
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
        # As a part of another, in which it may stand twice escaped.
        by_words(
            "%3a%2f%2f %253a%252f%252f",
            r"""(%(?:25)?3A(?:%(?:25)?2F){2})(?:(?!%(?:25)?2F)[^\s"'<>&]){1,300}?(%(?:25)?40)""",
            rf"\1{REDACTED}\2",
            re.IGNORECASE,
        ),
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
            "<",
            r"(?P<key><(?:[\w.-]{1,40}:)?(?P<name>[\w.-]{1,60})(?:\s[^<>]{0,200})?>(?:\s{0,40}<!\[CDATA\[)?)"
            r"(?P<value>[^<]{1,2000}+)(?=</)",
            _show_element,
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


def _show_element(found: re.Match[str]) -> str:
    value = found["value"].strip()
    hidden = value and not is_nothing(value) and is_secret(found["name"], value)
    return found["key"] + REDACTED if hidden else found[0]


def _show_keyed(found: re.Match[str]) -> str:
    shown = is_nothing(found["value"]) or _is_in_words(found) or not _is_of_key(found)
    return found[0] if shown else found["key"] + found["sign"] + REDACTED


def _is_in_words(found: re.Match[str]) -> bool:
    """Whether the word stands in a sentence, in code or among figures, and no secret under it."""
    value, told = found["value"], found["sign"].startswith(": ")
    if found["key"].lower().startswith("tokens"):
        before = found.string[max(0, found.start() - _BEFORE) : found.start()]
        return is_number_of_tokens(before, value) or (told and value.isalpha())
    if found["loose"]:
        return not is_mixed(value.strip("\\\"'"))
    return told and _SENTENCE.fullmatch(value) is not None


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
