"""Texts over what a model reads or writes at once are asked about part by part; each part is a paid step.

How a text is split is recorded before anything is paid, together with its fingerprint, so that a later run goes on with
the same parts; and nothing is paid unless the budgets have room for all of them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, TypedDict, TypeVar

from fourlane.errors import InvalidArguments, Reject
from fourlane.providers.ai import Usage
from fourlane.tasks.ai.batches.asking import Parked
from fourlane.tasks.ai.hopeless import as_rejects
from fourlane.tasks.ai.long.parts import Part, split
from fourlane.tasks.ai.money.prices import count_tokens
from fourlane.tasks.ai.paid.work import NotAccepted
from fourlane.tasks.ai.text.asking import Asking
from fourlane.tasks.ai.text.messages import Turn
from fourlane.tasks.ai.text.room import check_affordable, tokens_read
from fourlane.tasks.recorded import MAX_STEP_BYTES
from fourlane.tasks.steps import step

__all__ = ["ALONG", "SMALLEST", "about", "all_of", "check_parts", "in_many", "parts_of", "room_for_text", "told_of"]

T = TypeVar("T")

ALONG: Final = 200
"""Tokens that the instructions of a part take."""
SMALLEST: Final = 64
"""Tokens; a smaller part makes no sense by itself."""
_BYTES: Final = 4  # a token, as prices.py counts
_MOST_PARTS: Final = 1_000  # their steps, references alone, have room in a job
_STEPS_BYTES: Final = MAX_STEP_BYTES // 2
_AT_ONCE: Final = 4
_UNKNOWN: Final = 100_000  # tokens that a model reads of which nobody knows it


class _Plan(TypedDict):
    """How a text is split."""

    most_bytes: int
    fingerprint: str


def room_for_text(asked: Asking) -> int:
    """Tokens of a text that one call can take beside its instructions and answer."""
    return tokens_read(asked.model, _UNKNOWN) - asked.tokens_along - asked.max_tokens - ALONG


def check_parts(text: str, most: int) -> None:
    """Raises InvalidArguments: parts of ``most`` tokens are too small, or too many."""
    tokens = count_tokens(text)
    if tokens <= most:
        return
    if most < SMALLEST:
        raise InvalidArguments(f"there is room for {max(0, most)} tokens of the text at a time; raise max_tokens")
    if tokens > most * _MOST_PARTS:
        raise InvalidArguments(_too_many(tokens // most))


def _too_many(number: int) -> str:
    return f"the text has {number:,} parts, over {_MOST_PARTS:,}; raise max_tokens, or send less at once"


def about(asked: Asking, text: str, name: str) -> Asking:
    """The same of another text."""
    return replace(asked, turns=(Turn(role="user", text=text),), name=name)


def in_many(asked: Asking, parts: Sequence[Part]) -> Asking:
    """The same as one of many: written to the output by who joins them, kept where it leaves the others room."""
    return replace(asked, silent=True, inline_bytes=_STEPS_BYTES // len(parts))


async def parts_of(asked: Asking, text: str, most: int, taken: Callable[[Sequence[Part]], list[Usage]]) -> list[Part]:
    """The parts of a text, as an earlier run split it, if one did. Raises Reject: of another text, or too dear."""
    with as_rejects():
        check_parts(text, most)
    fingerprint = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    async def plan() -> _Plan:
        parts = split(text, most * _BYTES)
        if len(parts) > _MOST_PARTS:
            raise Reject(_too_many(len(parts)))
        await check_affordable(asked.operation, asked.model, asked.tenant, taken(parts))
        return {"most_bytes": most * _BYTES, "fingerprint": fingerprint}

    kept: _Plan = await step.run(f"ai:{asked.name}:plan", plan)
    if kept["fingerprint"] != fingerprint:
        raise Reject("the text is another than the one whose first parts were paid for; send it as a new job")
    return split(text, kept["most_bytes"])


async def told_of(name: str, work: Awaitable[T]) -> T:
    """The same, saying of which part an answer was not accepted."""
    try:
        return await work
    except NotAccepted as error:
        raise NotAccepted(f"{name}: {error}", error.reply) from None


async def all_of(works: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """What all give, some at once. After one that raises none begins; those on their way come to their end.

    One that waits for a batch keeps none back, for they shall wait together.
    """
    results: dict[int, T] = {}
    failed: list[BaseException] = []
    parked: list[Parked] = []
    left = iter(enumerate(works))

    async def take() -> None:
        for place, work in left:
            if failed:
                return
            try:
                results[place] = await work()
            except asyncio.CancelledError:
                raise
            except Parked as wait:
                parked.append(wait)
            except BaseException as error:
                failed.append(error)

    await asyncio.gather(*(take() for _ in range(_AT_ONCE)))
    if failed:
        raise failed[0]
    if parked:
        raise min(parked, key=lambda wait: wait.delay_ms)
    return [results[place] for place in range(len(works))]
