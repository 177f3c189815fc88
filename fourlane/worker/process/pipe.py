"""Lines to a process that may not read them now."""

from __future__ import annotations

import os
from typing import IO

import msgspec

__all__ = ["Pipe"]


class Pipe:
    """Never waits: what there is no room for is sent on at the next flush."""

    def __init__(self, stdin: IO[bytes]) -> None:
        os.set_blocking(stdin.fileno(), False)
        self._stdin = stdin
        self._unsent = b""

    def tell(self, message: msgspec.Struct) -> bool:
        """Send a line. False when the pipe is full and it was dropped: what matters is told again at the next beat."""
        if not self.flush():
            return False
        self._unsent = msgspec.json.encode(message) + b"\n"
        self.flush()
        return True

    def flush(self) -> bool:
        """Send on what the pipe had no room for. True when nothing is left."""
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._stdin.fileno(), self._unsent) :]
        except OSError:
            pass  # it is busy, or dead, and then the next look will tell
        return not self._unsent

    def close(self) -> None:
        self._stdin.close()
