"""Sees when Python files change, for ``--watch``."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Final

__all__ = ["CodeChanges"]

log = logging.getLogger("fourlane.supervisor")

_NOT_OURS: Final = {"__pycache__", "node_modules", "site-packages"}


_OUT_OF_MEANS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def _not_out_of_means(error: OSError) -> None:
    """What cannot be looked at for want of descriptors or memory has not gone."""
    if error.errno in _OUT_OF_MEANS:
        raise error


class CodeChanges:
    """The .py files under a folder, hidden ones and those of virtual environments left out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen = self._look()

    def changed(self) -> list[str]:
        """Paths that came, went or changed since the last call."""
        try:
            before, self._seen = self._seen, self._look()
        except OSError as error:
            log.warning("cannot look for changes of the code: %s", error)
            return []
        return sorted(path for path in before.keys() | self._seen.keys() if before.get(path) != self._seen.get(path))

    def _look(self) -> dict[str, tuple[int, int]]:
        found = {}
        for folder, inside, files in os.walk(self.folder, onerror=_not_out_of_means):
            inside[:] = [d for d in inside if not self._is_foreign(folder, d)]
            for file in files:
                if file.endswith(".py") and not file.startswith("."):
                    path = os.path.join(folder, file)
                    try:
                        status = os.stat(path)
                    except OSError:
                        continue  # editors put a file away and back
                    found[os.path.relpath(path, self.folder)] = (status.st_mtime_ns, status.st_size)
        return found

    @staticmethod
    def _is_foreign(folder: str, name: str) -> bool:
        return name.startswith(".") or name in _NOT_OURS or os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
