"""The steps that earlier runs of a job recorded, and what this run adds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from fourlane import codec
from fourlane.errors import AlteredCiphertext, AlteredSteps, RedisUnavailable, StepError
from fourlane.job import has_run
from fourlane.queues.carry import Held, refuse_lost
from fourlane.queues.journal import Journal, Lease

__all__ = ["MAX_STEP_BYTES", "Steps"]

MAX_STEP_BYTES: Final = 1_048_576
"""What the recorded steps of one job may take together."""
_PATIENCE_SECONDS: Final = 60.0
"""For so long work that is done is tried to be recorded, while Redis is away."""
_PAUSE_SECONDS: Final = 0.5
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
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self._check(self._save(name, value).result())
            except RedisUnavailable:
                if time.monotonic() > until:
                    raise
            time.sleep(_PAUSE_SECONDS)

    # For async tasks ----------------------------------------------------------------------------------------

    async def aload(self) -> None:
        if self._recorded is None:
            with _refusing_altered():
                self._take(await asyncio.wrap_future(self._journal.load(self._lease)))

    def arecord(self, name: str, value: Any) -> Coroutine[Any, Any, None]:
        """As record. The work is done: it is recorded though the job is cancelled in this very moment.

        It is on its way when this returns, before the event loop turns to others.
        """
        return self._arecorded(name, value, self._save(name, value))

    async def _arecorded(self, name: str, value: Any, saving: Future[bytes | bool | None]) -> None:
        try:
            return self._check(await asyncio.shield(asyncio.wrap_future(saving)))
        except RedisUnavailable:
            await asyncio.shield(asyncio.ensure_future(self._insist(name, value)))

    async def _insist(self, name: str, value: Any) -> None:
        # As long as Redis is away nobody else can take the job, and when it is back it says whose the job is.
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            try:
                return self._check(await asyncio.wrap_future(self._save(name, value)))
            except RedisUnavailable:
                if time.monotonic() > until:
                    raise

    # --------------------------------------------------------------------------------------------------------

    def _check(self, held: Any) -> None:
        if held is not True:
            self._run.lost = True
        refuse_lost(self._run)

    @property
    def job_id(self) -> str:
        """The id under which Redis has the job."""
        return self._lease.job_id

    @property
    def ran_before(self) -> bool:
        """Whether an earlier run of the job may have left something: it recorded, failed, was lost or replayed."""
        return bool(self._recorded) or has_run(self._lease.entry)

    @property
    def room(self) -> int:
        """Bytes that steps may still take."""
        return MAX_STEP_BYTES - self._size

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
            self._recorded, self._size = changed, len(data)
            return self._journal.save(self._lease, data)
