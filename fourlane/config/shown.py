"""How a setting is shown: as one would write it, but no secret."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

__all__ = ["ADDRESS", "Shown", "show", "without_login"]

_HIDDEN: Final = "set (hidden)"
_LOGIN: Final = re.compile(r"(?<=://)[^\s/]*@")


@dataclass(frozen=True)
class Shown:
    """In a field's annotation: how a value is shown that its type does not tell."""

    how: Callable[[Any], str]


def show(value: Any, annotations: Iterable[object] = ()) -> str:
    """A value, fit to be shown."""
    if value is None:
        return "not set"
    for one in annotations:
        if isinstance(one, Shown):
            return without_login(one.how(value))
    match value:
        case SecretStr():
            return _HIDDEN
        case bool():
            return str(value).lower()
        case dict():
            return without_login(json.dumps(value, default=lambda part: part.model_dump(exclude_defaults=True)))
        case _:
            return without_login(str(value))


def without_login(text: str) -> str:
    """A text, with what stands before the host taken out of the URLs in it."""
    return _LOGIN.sub("[hidden]@", text)


def _without_credentials(secret: SecretStr) -> str:
    """Scheme, host, port and database of a URL; hidden where they cannot be told from a password."""
    url = secret.get_secret_value()
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (raises ValueError when it is none)
    except ValueError:
        return _HIDDEN
    # An unescaped / ? or # in a password ends the host too early, and then an @ is left behind it.
    if not url.startswith(f"{parts.scheme}://") or "@" in parts.path + parts.query + parts.fragment:
        return _HIDDEN
    db = parse_qs(parts.query).get("db")
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{address}?db={db[0]}" if db else address


ADDRESS: Final = Shown(_without_credentials)
"""A URL that may have a password in it."""
