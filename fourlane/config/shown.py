"""How a setting is shown: as one would write it, but no secret."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, SecretStr

from fourlane.config.addresses import without_credentials

__all__ = ["ADDRESS", "Shown", "show"]

_HIDDEN: Final = "set (hidden)"


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
            return without_credentials(one.how(value))
    match value:
        case SecretStr():
            return _HIDDEN
        case bool():
            return str(value).lower()
        case dict() | list() | tuple():
            return without_credentials(json.dumps(value, default=_plain))
        case _:
            return without_credentials(str(value))


def _plain(part: Any) -> Any:
    return part.model_dump(mode="json", exclude_defaults=True) if isinstance(part, BaseModel) else str(part)


def _without_credentials(secret: SecretStr) -> str:
    """Scheme, host, port and database of a URL; hidden where they cannot be told from a password."""
    url = secret.get_secret_value()
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (raises ValueError when it is none)
        db = parse_qs(parts.query).get("db")
    except ValueError:
        return _HIDDEN
    # An unescaped / ? or # in a password ends the host too early, and then an @ is left behind it.
    if not url.startswith(f"{parts.scheme}://") or "@" in parts.path + parts.query + parts.fragment:
        return _HIDDEN
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{address}?db={db[0]}" if db else address


ADDRESS: Final = Shown(_without_credentials)
"""A URL that may have a password in it."""
