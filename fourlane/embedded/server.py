"""A Valkey of our own for `fourlane dev` and tests: nothing to install, no orphan, no accepted job lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fourlane import private
from fourlane.embedded.address import Address, ask, client_of
from fourlane.embedded.files import holder, lock, tail
from fourlane.embedded.start import POLL_SECONDS, START_SECONDS, how, start, stop
from fourlane.errors import EmbeddedServerError

__all__ = ["EmbeddedRedis"]

_WATCH_SECONDS: Final = 1.0


class EmbeddedRedis:
    """A Valkey server that belongs to a folder, and to the process that opened the folder first.

    1. Who gets the lock on ``lock`` owns the server; the file says which process that is.
    2. The server's output goes to ``server.log``, which it holds locked for as long as it lives. An owner
       waits for that lock: two servers never write to the same data, whatever became of an earlier owner.
    3. ``server.json`` (port and password, readable by this user only) is how others attach. It is kept after
       the end, and the next owner takes the same port if it can: who is attached then finds the new server.
    4. The server ends with its owner, by :meth:`close` or by the closing pipe.

    Data is on disk at most a second after it was written, so only a power cut can lose any (or a stop while
    the disk is full: see :meth:`health`).
    The owner may start other programs, but children by a bare fork (without exec) keep lock and server alive.

    Attributes:
      url: how to connect, password included.
      owner: whether the server ends with this object; false when attached to another process's.
      version: e.g. ``valkey 9.1.2``.
      folder: where the data is.
    """

    def __init__(self, folder: Path, address: Address, version: str, owned: _Owned | None) -> None:
        self.folder = folder
        self.url = address.url
        self.owner = owned is not None
        self.version = version
        self._address = address
        self._owned = owned
        self._closing = threading.Event()
        self._watcher: threading.Thread | None = None

    @classmethod
    def open(cls, data_dir: Path, *, attach: bool = False) -> EmbeddedRedis:
        """Start the server of ``data_dir``, or with ``attach`` connect to the one that runs there already.

        The folder is made when it is missing. Returns when the server answers and has loaded its data.

        Raises:
          EmbeddedServerError: the folder cannot be used, another process owns it (without ``attach``), or
            the server does not start; says what to do.
        """
        folder = Path(os.path.abspath(data_dir))
        try:
            private.folder(folder)
            return cls._own(folder) or cls._attach(folder, attach)
        except OSError as error:
            raise EmbeddedServerError(
                f"the embedded server cannot keep its data in {folder}: {error}. "
                "Make the folder writable (and leave room on its disk), or choose another."
            ) from error

    @classmethod
    def find(cls, data_dir: Path) -> EmbeddedRedis | None:
        """The server that another process runs in ``data_dir``; None when none does. Starts nothing."""
        folder = Path(os.path.abspath(data_dir))
        if not (folder / "lock").exists():
            return None
        held = lock(folder / "lock")
        if held is not None:
            os.close(held)
            return None
        return cls._attach(folder, True)

    @classmethod
    def _own(cls, folder: Path) -> EmbeddedRedis | None:
        held = lock(folder / "lock")
        if held is None:
            return None
        try:
            os.ftruncate(held, 0)
            os.write(held, str(os.getpid()).encode())
            address, version, guard = start(folder)
        except BaseException:
            os.close(held)
            raise
        return cls(folder, address, version, _Owned(held, guard))

    @classmethod
    def _attach(cls, folder: Path, wanted: bool) -> EmbeddedRedis:
        """Wait for the owner's server, which may be starting; become the owner if that one goes away."""
        deadline = time.monotonic() + START_SECONDS
        while wanted:
            address = Address.read(folder)
            answer = address and ask(folder, address)
            if address and answer and not answer.loading:
                return cls(folder, address, answer.version, None)
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"process {holder(folder)} holds {folder}, but its embedded server does not answer "
                    f"after {START_SECONDS:g} s. Try again if it is loading much data; otherwise stop it."
                )
            time.sleep(POLL_SECONDS)
            owner = cls._own(folder)
            if owner:
                return owner
        raise EmbeddedServerError(
            f"process {holder(folder)} already runs the embedded server of {folder}: a second `fourlane "
            "dev` in the same folder? Use that one, stop it, or choose another data folder."
        )

    def health(self) -> str | None:
        """What is wrong with the server now, as a text to show; None when all is well."""
        code = self._owned.guard.poll() if self._owned else None
        if code is not None:
            return (
                f"the embedded server has ended ({how(code)}). Start again: its data is kept in "
                f"{self.folder}. Its log ends:\n{tail(self.folder)}"
            )
        if self._owned and os.fstat(self._owned.lock).st_nlink == 0:
            return f"{self.folder} was deleted under the embedded server: what it holds is lost when it ends."
        return self._fault_inside()

    @property
    def ended(self) -> bool:
        """True when the server was ours and ended by itself."""
        owned = self._owned
        return owned is not None and owned.guard.poll() is not None

    def watch(self, tell: Callable[[str | None], None], end: Callable[[], object]) -> None:
        """Tell when :meth:`health` turns bad or good, in a thread of its own.

        That the server has ended by itself is told in any case, at the latest by :meth:`close`; ``end`` is called
        once it was told, unless who watches is closing already.
        """

        def run() -> None:
            bad = False
            while not self.ended and not self._closing.wait(_WATCH_SECONDS):
                fault = self.health()
                if (fault is not None) != bad and not self.ended:
                    tell(fault)
                bad = fault is not None
            if self.ended:
                tell(self.health())
                if not self._closing.is_set():
                    end()

        self._watcher = threading.Thread(target=run, name="fourlane-embedded", daemon=True)
        self._watcher.start()

    def _fault_inside(self) -> str | None:
        import redis

        try:
            with client_of(self._address) as client:
                state = client.info("persistence")
        except redis.RedisError as error:
            return f"the embedded server on port {self._address.port} does not answer: {error}"
        if state["loading"]:
            return "the embedded server is still loading its data."
        if state["aof_last_write_status"] != "ok":
            free = shutil.disk_usage(self.folder).free
            return (
                f"the embedded server cannot write to {self.folder} ({free / 1e6:.1f} MB free), so it "
                "refuses new jobs. Make room on the disk before you stop it: it then writes what it has "
                "in memory only, and goes on by itself."
            )
        return None

    def close(self) -> None:
        """End the server, if it is ours, once its data is on disk. One that we attached to is left alone."""
        self._closing.set()
        if self._watcher is not None:
            self._watcher.join()
        owned, self._owned = self._owned, None
        if owned:
            stop(owned.guard)
            os.close(owned.lock)

    def __enter__(self) -> EmbeddedRedis:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class _Owned:
    """What only the owner has: the descriptor of the locked file, and the server's guard."""

    lock: int
    guard: subprocess.Popen[bytes]
