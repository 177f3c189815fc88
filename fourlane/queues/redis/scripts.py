"""Loads the Lua scripts: ``lua/VERB.lua``, with ``--@include PART`` lines replaced by ``lua/parts/PART.lua``.

Redis makes the functions of a script anew in each call. So a part that few calls need is included in the block that
needs it (``turn.lua``).
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

__all__ = ["FLAG", "Script", "Scripts", "script"]

_FOLDER = Path(__file__).parents[1] / "lua"
_INCLUDE = re.compile(r"^ *--@include (\w+)$", re.MULTILINE)


# What frees memory, settles or keeps leases goes on when Redis is out of memory. It then refuses a script's first
# write, if that is of a kind that takes memory, and no later one: so these begin with one that takes none.
_GOES_ON_WHEN_FULL = {"audit", "beat", "cancel", "control", "discard", "leave", "purge", "reclaim", "trim", "turn"}
_HARMLESS_WRITE = "redis.call('PERSIST', KEYS[1])\n"


class Script:
    """One script and the hash under which a server keeps it."""

    def __init__(self, source: str, when_full: Script | None = None) -> None:
        self.source = source.encode()
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()
        self.when_full = when_full
        """What to run in its place when Redis refuses it for want of memory."""


FLAG = "#!lua flags=allow-key-locking\n"
"""A first line that Upstash knows: the script locks its keys, not the whole database. Redis and Valkey refuse it."""


@cache
def script(name: str, flagged: bool = False) -> Script:
    """The script of this name, with the flag for a server that takes it."""

    def include(match: re.Match[str]) -> str:
        return _INCLUDE.sub(include, (_FOLDER / "parts" / f"{match[1]}.lua").read_text())

    first = FLAG if flagged else ""
    source = _INCLUDE.sub(include, (_FOLDER / f"{name}.lua").read_text())
    when_full = Script(first + _HARMLESS_WRITE + source) if name in _GOES_ON_WHEN_FULL else None
    return Script(first + source, when_full)


class Scripts:
    """The scripts as one server takes them."""

    def __init__(self) -> None:
        self.flagged: bool | None = None
        """Whether it takes the flag; asked when it does not know a script."""

    def get(self, name: str) -> Script:
        return script(name, self.flagged is True)
