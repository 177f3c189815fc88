"""Names of stored files, and references to them. Pure.

A name has four words, ``AREA/TENANT/GROUP/FILE``, such as ``ai/acme/1P7TcrGUQjOecb/image.png``: all of a tenant's in
one area begin alike, and no file lies where another has a folder. A reference is ``storage:`` and the name: the same
for every backend, and known before anything is put.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final
from urllib.parse import quote

from fourlane.errors import InvalidName

__all__ = ["SCHEME", "belongs_to", "check_file_name", "file_name", "name_of", "reference"]

SCHEME: Final = "storage:"
_NOBODY: Final = "-"
_AREA: Final = "[a-z0-9][a-z0-9-]{0,31}"
# A word that begins with a dot could be `..`, or one of our own files that are not done yet (disk.py).
_WORD: Final = "[A-Za-z0-9_~%@+=-][A-Za-z0-9._~%@+=-]{0,149}"
_NAME: Final = re.compile(f"{_AREA}(/{_WORD}){{3}}")
_LONGEST_WORD: Final = 150
_LONGEST_SUFFIX: Final = 10
_HASH_DIGITS: Final = 32


def file_name(area: str, tenant: str, group: str, file: str) -> str:
    """The name of a file, always the same for the same words, and another for others.

    Parameters:
      area: what kind of files it is with, such as ``ai``.
      tenant: on whose behalf; empty for nobody's.
      group: what it belongs to, such as a job's id.
      file: with its suffix, such as ``image.png``.

    Raises InvalidName.
    """
    return check_file_name("/".join((area, _tenant_word(tenant), _word(group), _word(file))))


def _tenant_word(tenant: str) -> str:
    if not tenant:
        return _NOBODY
    return "%2D" if tenant == _NOBODY else _word(tenant)


def _word(text: str) -> str:
    """What a name can have of a text: other signs quoted, what is too long cut and marked by its hash."""
    word = quote(text, safe="@+=", errors="surrogatepass")
    if word.startswith("."):
        word = f"%2E{word[1:]}"
    if len(word) <= _LONGEST_WORD:
        return word
    _, dot, suffix = word.rpartition(".")
    tail = f"~{hashlib.sha256(word.encode()).hexdigest()[:_HASH_DIGITS]}"
    tail += dot + suffix if len(suffix) <= _LONGEST_SUFFIX else ""
    return word[: _LONGEST_WORD - len(tail)] + tail


def check_file_name(name: str) -> str:
    """Return the name, or raise InvalidName."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidName(
            f"{str(name)[:200]!r} is no name of a file: write AREA/TENANT/GROUP/FILE, each of letters, digits and "
            "._~%@+=-, at most 150 signs and no dot at the beginning (fourlane.storage.file_name makes one)"
        )
    return name


def reference(name: str) -> str:
    """Raises InvalidName."""
    return SCHEME + check_file_name(name)


def name_of(ref: str) -> str:
    """The name that a reference has. Raises InvalidName."""
    if not isinstance(ref, str) or not ref.startswith(SCHEME):
        raise InvalidName(f"{str(ref)[:200]!r} is no reference to a stored file: it begins with {SCHEME}")
    return check_file_name(ref.removeprefix(SCHEME))


def belongs_to(ref: str, tenant: str) -> bool:
    """Whether a stored file is this tenant's. Raises InvalidName."""
    return name_of(ref).split("/")[1] == _tenant_word(tenant)
