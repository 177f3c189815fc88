"""The steps that earlier runs of a job recorded, and what this run adds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from fourlane import codec
from fourlane.errors import AlteredCiphertext, AlteredSteps, StepError
from fourlane.queues.carry import Held, refuse_lost
from fourlane.queues.journal import Journal, Lease

__all__ = ["MAX_STEP_BYTES", "Steps"]

MAX_STEP_BYTES: Final = 1_048_576
"""What the recorded steps of one job may take together."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@contextmanager
def _refusing_altered() -> Iterator[None]:
    """Another attempt would find them no better."""
    try:
        yield
    except AlteredCiphertext as error:
        raise AlteredSteps(str(error)) from None


class Steps:
    """The recorded steps of one run; made when it first asks."""

    def __init__(self, journal: Journal, lease: Lease, run: Held) -> None:
        self._journal = journal
        self._lease = lease
        self._run = run
        self._lock = threading.Lock()
        self._recorded: dict[str, msgspec.Raw] | None = None
        self._size = 0
        self._met: set[str] = set()

    # Blocking, for plain tasks ------------------------------------------------------------------------------

    def load(self) -> None:
        if self._recorded is None:
            with _refusing_altered():
                self._take(self._journal.load(self._lease).result())

    def record(self, name: str, value: Any) -> None:
        """Raises StepError, LeaseLost, InvalidArguments, RedisUnavailable."""
        self._check(self._save(name, value).result())

    # For async tasks ----------------------------------------------------------------------------------------

    async def aload(self) -> None:
        if self._recorded is None:
            with _refusing_altered():
                self._take(await asyncio.wrap_future(self._journal.load(self._lease)))

    async def arecord(self, name: str, value: Any) -> None:
        # Shielded: work that is done shall be recorded, though the job is cancelled in this very moment.
        self._check(await asyncio.shield(asyncio.wrap_future(self._save(name, value))))

    # --------------------------------------------------------------------------------------------------------

    def _check(self, held: Any) -> None:
        if held is not True:
            self._run.lost = True
        refuse_lost(self._run)

    def has(self, name: str) -> bool:
        return self._recorded is not None and name in self._recorded

    def value(self, name: str) -> Any:
        assert self._recorded is not None
        return msgspec.json.decode(self._recorded[name])

    def meet(self, name: str) -> None:
        """Each name once in a run: a second step of the name would get the first one's result."""
        refuse_lost(self._run)
        if not isinstance(name, str) or not 0 < len(name) <= 200:
            raise StepError(f"{name!r} is no step's name: a text of 1 to 200 characters")
        with self._lock:
            if name in self._met:
                raise StepError(f"two steps are named {name!r}; number them, e.g. step(f'{name}-{{i}}')")
            self._met.add(name)

    def _take(self, data: Any) -> None:
        with self._lock:
            if self._recorded is not None:
                return
            try:
                self._recorded = _decode(data) if data else {}
            except msgspec.DecodeError:
                raise StepError(f"the recorded steps of job {self._lease.job_id} cannot be read") from None
            self._size = len(data or b"")

    def _save(self, name: str, value: Any) -> Future[bytes | bool | None]:
        refuse_lost(self._run)
        encoded = codec.encode_value(value, f"step {name}")
        # One at a time into the journal, so that a later state never comes before an earlier one.
        with self._lock:
            assert self._recorded is not None
            changed = self._recorded | {name: msgspec.Raw(encoded)}
            data = _encode(changed)
            if len(data) > MAX_STEP_BYTES:
                raise StepError(
                    f"the steps of a job may take {MAX_STEP_BYTES:,} bytes, with {name!r} they take {len(data):,}; "
                    "store the data elsewhere and record a reference to it"
                )
            self._recorded = changed
            return self._journal.save(self._lease, data)
