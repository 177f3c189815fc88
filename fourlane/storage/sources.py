"""Sources, the texts that say what a job is to read: what can be known of one by itself. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

from fourlane.errors import InvalidArguments, InvalidName
from fourlane.storage.blob import Found
from fourlane.storage.names import belongs_to, name_of

__all__ = ["check_reference", "read_data_url", "scheme_of", "short"]

_LONGEST: Final = 8_192  # of a source that is no data: URL
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def scheme_of(source: str) -> str:
    """In lower case; empty of a path. Raises InvalidArguments."""
    if not isinstance(source, str) or not source:
        raise InvalidArguments(f"a source is a text such as a URL, not {repr(source)[:200]}")
    found = _SCHEME.match(source)
    scheme = found[1].lower() if found else ""
    if len(source) > _LONGEST and scheme != "data":
        raise InvalidArguments(f"{short(source)} is too long: {len(source):,} signs")
    return scheme


def check_reference(ref: str, tenant: str) -> None:
    try:
        is_theirs = not tenant or belongs_to(ref, tenant)
        name_of(ref)
    except InvalidName as error:
        raise InvalidArguments(str(error)) from None
    if not is_theirs:
        raise InvalidArguments(f"{ref} is not of the tenant {tenant!r}")


def read_data_url(url: str) -> Found:
    """Raises InvalidArguments."""
    head, comma, text = url.partition(":")[2].partition(",")
    if not comma:
        raise InvalidArguments("a data: URL is data:MEDIA/TYPE;base64,DATA")
    try:
        if head.lower().endswith(";base64"):
            data = base64.b64decode(unquote(text, errors="strict"), validate=True)
        else:
            data = unquote_to_bytes(text)
    except (binascii.Error, ValueError) as error:
        raise InvalidArguments(f"the data: URL cannot be read: {error}") from None
    return Found(data, head.partition(";")[0])


def short(source: str) -> str:
    """Where it is, without what may be a secret or long: a URL's path and query."""
    scheme = source.partition(":")[0].lower()
    if scheme in ("http", "https"):
        return f"{scheme}://{re.split('[/?#]', source[len(scheme) + 3 :])[0].rpartition('@')[2][:200]}"
    return "the data: URL" if scheme == "data" else repr(source[:200])
