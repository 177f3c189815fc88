"""One piece of work of a job that is asked in a batch: put there, waited for, taken."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any, Final, TypedDict

import msgspec

from fourlane.errors import FourlaneError, InvalidArguments, RateLimited, Reject
from fourlane.names import Tier
from fourlane.providers.ai import Account, Answer, FailedAnswer
from fourlane.providers.ai.batches import answer_of
from fourlane.providers.ai.refusals import learn
from fourlane.queues.guards import Batches
from fourlane.queues.guards.batches import Ticket
from fourlane.sealing import open_file, seal_file
from fourlane.tasks.ai.batches.records import Whose, packed
from fourlane.tasks.ai.batches.rules import MOST_REQUEST_BYTES, may_wait_again, ticket_of
from fourlane.tasks.ai.config import AiConfig
from fourlane.tasks.ai.paid.sealed import is_sealing
from fourlane.tasks.ai.paid.work import Work
from fourlane.tasks.context import running

__all__ = ["BatchRefused", "Batched", "Parked", "account_of", "refuse_hurried"]

_FULL_SECONDS: Final = 60.0
_LATE_SECONDS: Final = 600.0


def account_of(config: AiConfig, full: str) -> Account:
    return config.account(full.partition("/")[0], config.rules(full).timeout_seconds)


class Parked(RateLimited):
    """The job waits for a batch, and spends no attempt; it runs when its answer is there."""


class BatchRefused(FourlaneError):
    """The provider refused the request: asked again as it is, it would be refused again.

    Attributes:
      status_code: of HTTP.
    """

    def __init__(self, words: str, status: int) -> None:
        super().__init__(words)
        self.status_code = status


def refuse_hurried(tier: int) -> None:
    """Raises InvalidArguments: a job of this tier does not wait for a batch."""
    if tier < Tier.P2:
        raise InvalidArguments(
            f"batch=True may take a day, and is for jobs of P2 and P3, not of {Tier(tier).name}: send it with "
            "send_with_options(tier='P2', …)"
        )


class _Way(TypedDict):
    """How far the work is; recorded, so that each run goes on there.

    tries: the number of the request. now: it is asked at once, no batch is waited for any more.
    status, words: of a refusal.
    """

    began_ms: int
    tries: int
    now: bool
    status: int
    words: str


class Batched:
    """The work of one step of the job that runs here. Ask ``wanted`` first."""

    def __init__(self, config: AiConfig, work: Work, full: str, *, step: str, key: str, tenant: str | None) -> None:
        run = running.get()
        if run is None or run.steps is None:
            raise Reject("batch=True needs a job that can wait; call it in a task that was sent")
        try:
            refuse_hurried(int(run.steps.job_id[0]))
        except InvalidArguments as error:
            raise Reject(str(error)) from None
        self._config, self._work, self.full = config, work, full
        self._run, self._steps, self._step = run, run.steps, step
        self._key, self._tenant = key, tenant
        self._provider, _, self._model = full.partition("/")
        self._account = account_of(config, full)
        self._batches = Batches(run.store, self._provider)
        self._way: _Way = {"began_ms": _now_ms(), "tries": 1, "now": False, "status": 0, "words": ""}
        self._found: Ticket | None = None
        self._answer: Answer | None = None

    @property
    def is_asked(self) -> bool:
        """Whether the request was put there, or more."""
        return self._found is not None or self._way["status"] != 0

    async def wanted(self) -> bool:
        """Whether a batch is to be asked, or has answered; False: the model is to be asked at once."""
        if self._steps.has(self._name):
            self._way = self._steps.value(self._name)
        else:
            await self._record()
        if self._way["now"] or self._way["status"]:
            return not self._way["now"]
        self._found = await asyncio.to_thread(self._batches.look, self._ticket)
        if self._found is None:
            return True
        if self._found.word == "answer":
            self._answer = self._read(self._found)
        elif self._found.word == "refused":
            await self._refused(msgspec.json.decode(self._opened(self._found.answer)))
        elif not self._found.word:
            await self._wait_on()
        if self._found is not None and self._answer is None and not self._way["status"]:
            await self._not_answered()
        return not self._way["now"]

    async def answer(self) -> Answer:
        """The answer that came.

        Raises:
          Parked: it has not come yet. BatchRefused: none will.
        """
        if self._way["status"]:
            raise BatchRefused(self._way["words"], self._way["status"])
        if self._answer is not None:
            return self._answer
        if await asyncio.to_thread(self._put) == "full":
            raise Parked(_FULL_SECONDS)
        raise Parked(self._seconds_left())

    async def forget(self) -> None:
        """The answer is recorded."""
        await asyncio.to_thread(self._batches.forget, self._ticket)

    # ----------------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return f"{self._step}~batch"

    @property
    def _ticket(self) -> str:
        return ticket_of(self._steps.job_id, self._step, self.full, self._way["tries"])

    def _seconds_left(self) -> float:
        over_ms = self._way["began_ms"] + self._config.batch_within_seconds * 1000
        return max(_LATE_SECONDS, (over_ms - _now_ms()) / 1000)

    def _put(self) -> str:
        """Put the request there, unless it is. Raises Reject: it is too large."""
        request = self._work.request
        assert request is not None
        body = msgspec.json.encode(request(self._account, self._model, self._key))
        if len(body) > MOST_REQUEST_BYTES:
            raise Reject(f"a request of {len(body):,} bytes is too large for a batch; leave batch out")
        job, sealed = self._run.context, is_sealing()
        whose = Whose(
            job=self._steps.job_id, service=job.queue, task=job.task, operation=self._work.operation, key=self._key,
            day=datetime.now(UTC).strftime("%Y-%m-%d"), full=self.full, tenant=self._tenant or "", sealed=sealed,
        )  # fmt: skip
        closed = seal_file(self._ticket, body) if sealed else body
        return self._batches.add(self._model, self._ticket, packed(whose), closed)

    async def _wait_on(self) -> None:
        """Nothing came yet: wait, or where that took too long ask at once, unless it is under way. Raises Parked."""
        late = _now_ms() - self._way["began_ms"] >= self._config.batch_within_seconds * 1000
        if not late or not await asyncio.to_thread(self._batches.withdraw, self._model, [self._ticket]):
            raise Parked(self._seconds_left())

    def _read(self, found: Ticket) -> Answer | None:
        try:
            return answer_of(self._provider, self._model, msgspec.json.decode(self._opened(found.answer)))
        except FailedAnswer:
            return None

    def _opened(self, data: bytes) -> bytes:
        return open_file(self._ticket, data) if is_sealing() else data

    async def _refused(self, told: dict[str, Any]) -> None:
        """Remember it, unless it can be asked without what it was refused for."""
        if self._work.ready is not None:
            await self._work.ready()
        assert self._work.request is not None
        body = dict(self._work.request(self._account, self._model, self._key))
        if learn(self._account, self._model, body, told["words"]):
            return
        self._way = {**self._way, "status": told["status"], "words": f"{self.full}: {told['words']}"}
        await self._record()
        await self.forget()

    async def _not_answered(self) -> None:
        """Go on with another request, or without a batch."""
        last = self._ticket
        way = self._way
        again = may_wait_again(way["tries"], way["began_ms"], _now_ms(), self._config.batch_within_seconds)
        self._way = {**way, "tries": way["tries"] + 1, "now": not again}
        await self._record()
        await asyncio.to_thread(self._batches.forget, last)
        self._found = None

    async def _record(self) -> None:
        await self._steps.arecord(self._name, self._way)


def _now_ms() -> int:
    return int(time.time() * 1000)
