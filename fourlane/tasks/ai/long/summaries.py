"""A summary of a text of any length: its parts are summarized, then their summaries, until one call can read them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from fourlane.providers.ai import Usage
from fourlane.tasks.ai.long.parts import Part
from fourlane.tasks.ai.long.texts import ALONG, about, all_of, in_many, parts_of, room_for_text, told_of
from fourlane.tasks.ai.money.prices import count_tokens
from fourlane.tasks.ai.paid.reply import Reply, summed
from fourlane.tasks.ai.paid.work import NotAccepted
from fourlane.tasks.ai.text.answering import answer
from fourlane.tasks.ai.text.asking import Asking

__all__ = ["summarize_text"]


async def summarize_text(asked: Asking, text: str, words: int) -> Reply:
    """A summary of the whole. Raises NotAccepted, which says of which part; and as ``call``."""
    paid: list[Reply] = []
    room = room_for_text(asked)
    while count_tokens(text) > room:
        level = replace(asked, name=f"{asked.name}:map-{len(paid) + 1}")
        replies = await _of_parts(level, text, room * 3 // 4, words)
        paid += replies
        shorter = "\n\n".join(reply["text"].strip() for reply in replies)
        if len(shorter) > len(text) * 2 // 3:
            raise NotAccepted("the summaries of its parts are hardly shorter than the text", summed(paid))
        text = shorter
    return summed([*paid, await answer(about(asked, text, asked.name))])


async def _of_parts(asked: Asking, text: str, most: int, words: int) -> list[Reply]:
    """The summaries of a text's parts of ``most`` tokens."""
    words = max(words, asked.max_tokens // 4)
    parts = await parts_of(asked, text, most, lambda parts: _taken(asked, parts, most))
    parts = [part for part in parts if part.text]

    def one(place: int) -> Callable[[], Awaitable[Reply]]:
        which = f"part {place + 1} of {len(parts)}"
        part = about(in_many(asked, parts), parts[place].text, f"{asked.name}:{place + 1}")
        told = f"{part.system}\nThis is {which} of a longer text: summarize it alone, in at most {words} words."
        return lambda: told_of(which, answer(replace(part, system=told)))

    return await all_of([one(place) for place in range(len(parts))])


def _taken(asked: Asking, parts: Sequence[Part], most: int) -> list[Usage]:
    """What this level takes at most, and those above it, which get what this one says."""
    along = asked.tokens_along + ALONG
    tokens = (count_tokens(part.text) for part in parts if part.text)
    taken = [Usage(input_tokens=each + along, output_tokens=asked.max_tokens) for each in tokens]
    said = len(taken) * asked.max_tokens
    above = max(1, -(-said // most))
    return [*taken, Usage(input_tokens=said + above * along, output_tokens=above * asked.max_tokens)]
