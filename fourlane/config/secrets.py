"""The secrets among the settings, so that they can be taken out of what is kept of errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from fourlane.config.addresses import secrets_in
from fourlane.config.shown import ADDRESS

__all__ = ["secrets_of"]


def secrets_of(settings: BaseModel) -> Iterator[str]:
    """All of them; of an address what opens it."""
    for field, info in type(settings).model_fields.items():
        is_address = ADDRESS in info.metadata
        for value in _texts_in(getattr(settings, field)):
            if isinstance(value, SecretStr):
                text = value.get_secret_value()
                if not is_address:
                    yield from {text, *re.split(r"[,|\s]+", text), _path(text)}
                yield from secrets_in(text)
            else:
                yield from secrets_in(value)


def _texts_in(value: Any) -> Iterator[SecretStr | str]:
    if isinstance(value, (SecretStr, str)):
        yield value
    elif isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from _texts_in(getattr(value, field))
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts_in(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _texts_in(one)


def _path(address: str) -> str:
    """Of an address that is a secret as a whole, what an HTTP client may tell of it alone."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return parts.path if parts.scheme in ("http", "https") else ""
