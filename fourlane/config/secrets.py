"""The secrets among the settings, so that they can be taken out of what is kept of errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

from fourlane.config.shown import ADDRESS

__all__ = ["secrets_of"]


def secrets_of(settings: BaseModel) -> Iterator[str]:
    """All of them; of an address what opens it."""
    for field, info in type(settings).model_fields.items():
        is_address = ADDRESS in info.metadata
        for text in _secrets_in(getattr(settings, field)):
            yield from _password(text) if is_address else {text, *re.split(r"[,|\s]+", text), *_password(text)}


def _secrets_in(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from _secrets_in(getattr(value, field))
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _secrets_in(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _secrets_in(one)


def _password(url: str) -> set[str]:
    try:
        password = urlsplit(url).password
    except ValueError:
        return set()
    return {password, unquote(password)} if password else set()
