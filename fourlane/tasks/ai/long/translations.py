"""A translation of a text of any length: parts, some at once, each with what lies before it, joined again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from fourlane.providers.ai import Usage
from fourlane.tasks.ai.long.parts import Part, split
from fourlane.tasks.ai.long.texts import ALONG, SMALLEST, about, all_of, in_many, parts_of, room_for_text, told_of
from fourlane.tasks.ai.money.prices import count_tokens
from fourlane.tasks.ai.paid.reply import Reply, summed
from fourlane.tasks.ai.paid.speaking import Speaker
from fourlane.tasks.ai.paid.work import NotAccepted
from fourlane.tasks.ai.text.answering import answer
from fourlane.tasks.ai.text.asking import Asking

__all__ = ["translate_text", "translated_at_once"]

_CONTEXT: Final = 300  # characters of what lies before a part
_HALVINGS: Final = 3


class _Said(NamedTuple):
    """The text that came of a part, and all that was paid for it."""

    text: str
    replies: tuple[Reply, ...]


def translated_at_once(asked: Asking) -> int:
    """Tokens: half of what may be written, for a language may take twice what another does."""
    return min(asked.max_tokens // 2, room_for_text(asked))


async def translate_text(asked: Asking, text: str) -> Reply:
    """The whole translation. Raises NotAccepted, which says of which part; and as ``call``."""
    most = translated_at_once(asked)
    if count_tokens(text) <= most:
        return _whole(await _translated(asked, text, "", asked.name))
    parts = await parts_of(asked, text, most, lambda parts: [_taken(asked, part) for part in parts])
    speaker = _InOrder()

    def one(place: int) -> Callable[[], Awaitable[_Said]]:
        async def work() -> _Said:
            before, part = parts[place - 1].text if place else "", parts[place]
            translated = _translated(in_many(asked, parts), part.text, before, f"{asked.name}:{place + 1}")
            said = await told_of(f"part {place + 1} of {len(parts)}", translated)
            speaker.put(place, said.text.strip() + part.gap)
            return _Said(said.text.strip() + part.gap, said.replies)

        return work

    return _whole(_joined(await all_of([one(place) for place in range(len(parts))])))


def _taken(asked: Asking, part: Part) -> Usage:
    tokens = count_tokens(part.text)
    most = min(asked.max_tokens, 2 * tokens + ALONG)
    return Usage(input_tokens=tokens + asked.tokens_along + ALONG, output_tokens=most)


async def _translated(asked: Asking, text: str, before: str, name: str, halved: int = 0) -> _Said:
    """A text's translation; when it is cut, in smaller parts. ``before``: the text that it goes on from."""
    if not text:
        return _Said("", ())
    one = about(asked, text, name)
    if before:
        context = before[-_CONTEXT:].partition(" ")[2] or before[-_CONTEXT:]
        one = replace(one, system=f"{one.system}\nThe text goes on from what is translated already: …{context}")
    reply = await answer(replace(one, accept=(*one.accept, "truncated")))
    if reply["outcome"] != "truncated" or "truncated" in asked.accept:
        return _Said(reply["text"], (reply,))
    smaller = len(text.encode("utf-8", "replace")) // 2
    if halved == _HALVINGS or smaller < SMALLEST:
        raise NotAccepted(f"{reply['model']} cut its translation off, of a small part too; raise max_tokens", reply)
    whole = [_Said("", (reply,))]
    for number, half in enumerate(split(text, smaller), 1):
        said = await _translated(replace(asked, silent=True), half.text, before, f"{name}.{number}", halved + 1)
        whole.append(_Said(said.text.strip() + half.gap, said.replies))
        before = half.text
    if not asked.silent:
        speaker = Speaker()
        speaker.begin()
        speaker.say(_joined(whole).text)
    return _joined(whole)


def _joined(said: Sequence[_Said]) -> _Said:
    return _Said("".join(one.text for one in said), tuple(reply for one in said for reply in one.replies))


def _whole(said: _Said) -> Reply:
    return {**summed(said.replies), "text": said.text}


class _InOrder:
    """Writes parts to the job's output in their order, whichever is ready first."""

    def __init__(self) -> None:
        self._speaker = Speaker()
        self._next = 0
        self._ready: dict[int, str] = {}

    def put(self, place: int, text: str) -> None:
        self._ready[place] = text
        while self._next in self._ready:
            self._speaker.say(self._ready.pop(self._next))
            self._next += 1
