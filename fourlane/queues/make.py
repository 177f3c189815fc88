"""Where jobs are made: each way in turns a task, arguments and options into an id and a body here.

1. draft() takes what goes along: the tenant, later messages, and whether the job is to be sealed.
2. accepted() puts the trace into the options, around who hands the job to Redis, or to the outbox.
3. Draft.body() has the task's own check look at the arguments, seals them where they must be, and keeps to the size.

Who makes jobs of what is JSON already, and whose task is none of this program's (the relay) or has none that checks
(events), has body_of_parts().
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from fourlane import codec, job
from fourlane.errors import DuplicateJob
from fourlane.later import later_tasks
from fourlane.names import Queue
from fourlane.queues import carry
from fourlane.queues.later_messages import checked_messages
from fourlane.queues.lines import Line, texts_of
from fourlane.queues.store import Store
from fourlane.telling import tell

__all__ = ["Draft", "Lines", "accepted", "body_of_parts", "draft", "enqueue_many", "with_options"]

T = TypeVar("T")
Lines = Callable[[Sequence[Any], Mapping[str, Any], Mapping[str, Any]], Sequence[Line]]
"""Of a job's arguments and options, the lines that it waits in."""


class Draft(msgspec.Struct, frozen=True, gc=False):
    """What the jobs of one call have in common."""

    task: str
    options: Mapping[str, Any]
    sealed: bool = False
    check: Callable[..., None] | None = None
    lines: Lines | None = None

    def lines_of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
        """The lines that a job waits in. Raises InvalidOption, and what the task's own function raises."""
        return [] if self.lines is None else texts_of(self.lines(args, kwargs, self.options))

    def body(
        self,
        job_id: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        enqueued_ms: int = 0,
        call: int = 0,
        max_bytes: int = codec.MAX_BODY_BYTES,
    ) -> bytes:
        """The body of the job of this id, as it is stored.

        Raises:
          InvalidArguments, JobTooLarge, and what ``check`` raises.
          EncryptionError: there are no keys.
        """
        if self.check is not None:
            carry.look(self.check, int(job_id[:1]), self.options, args, kwargs)
        options, lines = self.options, self.lines_of(args, kwargs)
        if self.sealed:
            from fourlane.sealing import seal_job

            codec.check(self.task, args, kwargs, options)
            args, options = seal_job(job_id, self.task, args, kwargs, options)
            kwargs = {}
        return codec.encode(
            self.task, args, kwargs, options, enqueued_ms=enqueued_ms, call=call, lines=lines, max_bytes=max_bytes
        )


def draft(name: str, actor: Any, options: Mapping[str, Any], actors: Mapping[str, Any]) -> Draft:
    """Begin the jobs of one call.

    Parameters:
      actor: the task; one of dramatiq's has no check and is not encrypted, and neither is one that is not known here.
      actors: all that are known here.

    Raises:
      InvalidName: of the tenant.
      InvalidArguments, InvalidOption, and what its ``check`` raises: of a later message in the options.
      LeaseLost: the run that sends it lost its own job.
    """
    if "tenant" in options or carry.running.get() is not None:
        options = carry.with_tenant(options)
    if options and not codec.MESSAGES.isdisjoint(options):
        options = checked_messages(name, actor, options, actors)
    encrypt = getattr(actor, "encrypt", False)
    sealed = encrypt or carry.sends_sealed.get() or (options and _names_encrypted(options, actors))
    return Draft(name, options, bool(sealed), getattr(actor, "check", None), getattr(actor, "lines", None))


def accepted(
    made: Draft, queue: Queue, name_of: Callable[[Queue], str], accept: Callable[..., T], *args: Any, number: int = 1
) -> T:
    """What ``accept(draft, queue, *args)`` gives, which has the jobs accepted: within their trace."""
    if "sending" not in tell.heard or "traceparent" in made.options:
        return accept(made, queue, *args)
    with tell.sending(name_of(queue), made.task, number) as along:
        return accept(with_options(made, {**along, **made.options}), queue, *args)


def with_options(made: Draft, options: Mapping[str, Any]) -> Draft:
    return msgspec.structs.replace(made, options=options)


def enqueue_many(
    made: Draft,
    queue: Queue,
    store: Store,
    calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]],
    now_ms: int,
    *,
    max_bytes: int,
) -> list[str]:
    """Have many jobs accepted that may run now, each under an id of its own; none when one cannot be made.

    Returns the ids. Raises as `Draft.body`, and RedisUnavailable: not all were accepted.
    """
    if made.sealed:
        return _enqueue_sealed(made, queue, store, calls, now_ms, max_bytes)
    task, options, check, encode = made.task, made.options, made.check, codec.encode
    bodies: list[bytes] = []
    lines: Sequence[str] = ()
    for args, kwargs in calls:  # as Draft.body: a call for each would be felt
        if check is not None:
            carry.look(check, int(queue.tier), options, args, kwargs)
        if made.lines is not None:
            lines = made.lines_of(args, kwargs)
        bodies.append(encode(task, args, kwargs, options, lines=lines, max_bytes=max_bytes))
    return store.enqueue_new(queue.service, int(queue.tier), bodies, now_ms)


def _enqueue_sealed(
    made: Draft,
    queue: Queue,
    store: Store,
    calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]],
    now_ms: int,
    max_bytes: int,
) -> list[str]:
    """Each is bound to its id, so that is there first."""
    tier = int(queue.tier)
    ids = job.new_ids(tier, now_ms, len(calls))
    left = list(range(len(calls)))
    while left:
        pairs: list[Any] = []
        for place in left:
            pairs += (ids[place], made.body(ids[place], *calls[place], max_bytes=max_bytes))
        try:
            store.enqueue(queue.service, tier, pairs)
            break
        except DuplicateJob as taken:  # one chance in millions
            left = [place for place in left if ids[place] in taken.ids]
            for place in left:
                ids[place] = job.new_id(tier, now_ms)
    return ids


def body_of_parts(
    task: str,
    args: bytes,
    kwargs: bytes,
    options: Mapping[str, Any],
    *,
    job_id: str,
    sealed: bool,
    enqueued_ms: int,
    lines: Sequence[str] = (),
) -> bytes:
    """The body of a job whose arguments are JSON already. Raises EncryptionError; UnreadableJob of what it seals."""
    if sealed:
        from fourlane.sealing import seal_parts

        args, options = seal_parts(job_id, task, args, kwargs, options)
        kwargs = b"{}"
    return codec.encode_parts(task, args, kwargs, options, enqueued_ms, lines)


def _names_encrypted(options: Mapping[str, Any], actors: Mapping[str, Any]) -> bool:
    """Whether the options name an encrypted task for later: it gets what this job has."""
    return any(getattr(actors.get(name), "encrypt", False) for name in later_tasks(options))
