"""The run that sends a job: its tenant goes along, it may have it sealed, and once its lease is lost it sends none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Final, Protocol

from fourlane.errors import LeaseLost
from fourlane.names import check_tenant

__all__ = [
    "LOST",
    "Held",
    "checked_tenant",
    "checked_tier",
    "current_tenant",
    "look",
    "refuse_late",
    "refuse_lost",
    "running",
    "sealing",
    "sends_sealed",
    "with_tenant",
]

running: ContextVar[Any] = ContextVar("fourlane_running", default=None)
"""The run that this thread or coroutine belongs to (tasks/context.py); None outside a worker."""


checked_tier: ContextVar[int | None] = ContextVar("fourlane_checked_tier", default=None)
"""The tier of the job whose arguments its task's ``check`` looks at."""


checked_tenant: ContextVar[str | None] = ContextVar("fourlane_checked_tenant", default=None)
"""The tenant of the job whose arguments its task's ``check`` looks at; empty for none. None: no job is looked at."""


def look(
    check: Callable[..., None], tier: int, options: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Have a task's check look at a job's arguments, and know the job's tier and tenant. Raises what it raises."""
    before, earlier = checked_tier.set(tier), checked_tenant.set(options.get("tenant", ""))
    try:
        check(*args, **kwargs)
    finally:
        checked_tier.reset(before)
        checked_tenant.reset(earlier)


sends_sealed: ContextVar[bool] = ContextVar("fourlane_sends_sealed", default=False)
"""Whether jobs are sealed whatever their tasks say."""


def sealing(needed: bool = True) -> AbstractContextManager[None]:
    """Meanwhile what is sent here is sealed: what tells of an encrypted job has its arguments and its result."""
    return _sealing() if needed else _PLAIN


_PLAIN: Final[AbstractContextManager[None]] = nullcontext()


@contextmanager
def _sealing() -> Iterator[None]:
    before = sends_sealed.set(True)
    try:
        yield
    finally:
        sends_sealed.reset(before)


LOST = "the job's lease was lost: another worker runs it"


class Held(Protocol):
    """What runs under a lease."""

    lost: bool
    """Whether the lease is known to be lost."""


def refuse_lost(run: Held | None) -> None:
    """What a run does late is not to count. Raises LeaseLost once its lease is known to be lost."""
    if run is not None and run.lost:
        raise LeaseLost(LOST)


def refuse_late() -> None:
    """As refuse_lost, of the run that this thread or coroutine belongs to. Whatever acts on jobs, queues, schedules or
    events comes by here first."""
    refuse_lost(running.get())


def current_tenant() -> str:
    """The tenant of the job that runs here; empty for none, and outside a worker."""
    now = running.get()
    return "" if now is None else now.tenant


def with_tenant(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """A new job's options with its tenant: the one they name, else that of the job that runs here.

    Every job that is sent comes by here.

    Raises:
      InvalidName: of the tenant.
      LeaseLost: the run that sends it lost its own job.
    """
    refuse_late()
    tenant = check_tenant(options["tenant"]) if "tenant" in options else current_tenant()
    if tenant:
        return {**options, "tenant": tenant}
    return {name: value for name, value in options.items() if name != "tenant"}
