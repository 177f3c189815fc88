"""Loads the Lua scripts: ``lua/VERB.lua``, with ``--@include PART`` lines replaced by ``lua/parts/PART.lua``."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources

__all__ = ["Script", "script"]

_INCLUDE = re.compile(r"^--@include (\w+)$", re.MULTILINE)


class Script:
    """One script and the hash under which a server keeps it."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source.encode()
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()


@cache
def script(name: str) -> Script:
    """The script of this name."""
    folder = resources.files("fourlane.queues") / "lua"

    def include(match: re.Match[str]) -> str:
        return (folder / "parts" / f"{match[1]}.lua").read_text()

    return Script(name, _INCLUDE.sub(include, (folder / f"{name}.lua").read_text()))
