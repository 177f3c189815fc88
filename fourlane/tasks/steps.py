"""Steps: durable progress inside a job.

A step's result is recorded in Redis before the job goes on. When the job runs again (a retry, a crash, a deploy, a
replay) it gets the recorded result, and the step's work is not done again:

    receipt = await step.run("charge", charge, order)     # in an async task
    receipt = step.call("charge", charge, order)          # in a plain task
    with step("mail") as mail:                            # around several lines
        if not mail.recorded:
            mail.result = send(order)
    for row in resume(rows, cursor="rows"): ...           # goes on behind the last finished row

What is recorded lives and dies with the job, dead letters included. Only the holder of the job's lease can record.
Between the end of a step's work and its recording lies a moment: a worker that dies in it does the step again. So a
step is "at least once", and exactly once where the work itself knows an idempotency key: ``step_key`` makes one.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from fourlane.tasks.context import running
from fourlane.tasks.recorded import Steps
from fourlane.telling import tell

__all__ = ["resume", "step", "step_key"]

P = ParamSpec("P")
T = TypeVar("T")


def _steps() -> Steps | None:
    """Those of the job that runs here; None outside a worker, where steps just run."""
    run = running.get()
    return None if run is None else run.steps


class step(Generic[T]):
    """One named step of a job.

    Attributes:
      recorded: True when an earlier run did it; then ``result`` is what that run recorded.
      result: set it inside the ``with``; recorded at its end, unless an error ended it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.recorded = False
        self.result: Any = None

    def __enter__(self) -> step[T]:
        self._journal = _steps()
        if self._journal is not None:
            self._journal.meet(self.name)
            self._journal.load()
            self._recall()
        self._enter_span()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._span.__exit__(kind, error, trace)
        if kind is None and self._journal is not None and not self._journal.has(self.name):
            self._journal.record(self.name, self.result)

    async def __aenter__(self) -> step[T]:
        self._journal = _steps()
        if self._journal is not None:
            self._journal.meet(self.name)
            await self._journal.aload()
            self._recall()
        self._enter_span()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._span.__exit__(kind, error, trace)
        if kind is None and self._journal is not None and not self._journal.has(self.name):
            await self._journal.arecord(self.name, self.result)

    def _recall(self) -> None:
        assert self._journal is not None
        if self._journal.has(self.name):
            self.recorded, self.result = True, self._journal.value(self.name)

    def _enter_span(self) -> None:
        self._span = tell.span(f"step {self.name}", {"fourlane.recorded": self.recorded})
        self._span.__enter__()

    @overload
    @staticmethod
    async def run(name: str, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    @staticmethod
    async def run(name: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @staticmethod
    async def run(name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """In an async task: the recorded result, or call ``fn`` and record what it returns.

        The result is anything that JSON can carry; the recorded one comes back as JSON gives it (tuples as lists).

        Raises:
          StepError: the name was used before in this run, or the job's steps take too much.
          InvalidArguments: JSON cannot carry the result.
          LeaseLost: another worker runs the job by now.
        """
        async with step[Any](name) as one:
            if not one.recorded:
                value = fn(*args, **kwargs)
                one.result = await value if inspect.isawaitable(value) else value
        return one.result

    @staticmethod
    def call(name: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As run, in a plain task."""
        with step[Any](name) as one:
            if not one.recorded:
                one.result = fn(*args, **kwargs)
        return cast("T", one.result)


def step_key(name: str) -> str:
    """An idempotency key for a step of this job: the same in every run of it, and in no other job."""
    run = running.get()
    job_id = "none" if run is None else run.context.id
    return f"fourlane-{job_id}-{name}"


class resume(Generic[T]):
    """Go through items, in each run behind the last item that an earlier one finished.

        for row in resume(rows, cursor="rows"): ...
        for row in resume(lambda last: rows_after(last), cursor="rows", key=lambda row: row.id): ...

    Use ``async for`` in an async task. Between two items the job may be interrupted by a deploy or a cancel.

    Parameters:
      items: an iterable that gives the same items in the same order each time, or, with ``key``, a function of the
        last finished item's key (None at first) that gives those behind it.
      cursor: the name under which the position is recorded.
      key: what to record of an item; without it the number of finished items, which are then skipped.
      every: record after so many items; a crash repeats those since.
    """

    def __init__(
        self,
        items: Iterable[T] | Callable[[Any], Iterable[T]],
        *,
        cursor: str,
        key: Callable[[T], Any] | None = None,
        every: int = 1,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be 1 or more, not {every}")
        if callable(items) != (key is not None):
            raise TypeError("resume needs an iterable, or a function of the last key together with key=")
        self._items, self._cursor, self._key, self._every = items, cursor, key, every

    def __iter__(self) -> Iterator[T]:
        steps = _steps()
        if steps is not None:
            steps.meet(self._cursor)
            steps.load()
        for count, item in self._rest(steps):
            yield item
            if steps is not None and count % self._every == 0:
                steps.record(self._cursor, self._position(count, item))
            _stop_if_told()

    async def __aiter__(self) -> AsyncIterator[T]:
        steps = _steps()
        if steps is not None:
            steps.meet(self._cursor)
            await steps.aload()
        for count, item in self._rest(steps):
            yield item
            if steps is not None and count % self._every == 0:
                await steps.arecord(self._cursor, self._position(count, item))
            _stop_if_told()

    def _position(self, count: int, item: T) -> Any:
        return count if self._key is None else self._key(item)

    def _rest(self, steps: Steps | None) -> Iterator[tuple[int, T]]:
        last = steps.value(self._cursor) if steps is not None and steps.has(self._cursor) else None
        if self._key is not None:
            yield from enumerate(cast("Callable[[Any], Iterable[T]]", self._items)(last), 1)
            return
        for count, item in enumerate(cast("Iterable[T]", self._items), 1):
            if last is None or count > last:
                yield count, item


def _stop_if_told() -> None:
    run = running.get()
    if run is not None:
        run.context.cancel_token.raise_if_set()
