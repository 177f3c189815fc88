"""What a task does with a text: it comes as an argument or from a source, and is asked about whole or in parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fourlane.errors import InvalidArguments, Reject
from fourlane.providers.ai import Media
from fourlane.storage.media import TEXTS
from fourlane.tasks.ai.checks import check_asking, check_batch, check_writer, refuse_classes
from fourlane.tasks.ai.hopeless import as_rejects
from fourlane.tasks.ai.long.texts import check_parts, room_for_text
from fourlane.tasks.ai.media.sources import check_sources, read_media
from fourlane.tasks.ai.options import check_text, check_words
from fourlane.tasks.ai.paid.reply import Reply
from fourlane.tasks.ai.paid.shelf import Shelf
from fourlane.tasks.ai.text.answering import answer
from fourlane.tasks.ai.text.asking import Asking, asking
from fourlane.tasks.context import current_job

__all__ = ["TextWork"]

_MOST_BYTES: Final = 20 << 20
_MOST_RESULT: Final = 524_288
"""Bytes of a text that is a job's result; it may be written in escapes there, and there is more than the text."""
_WHOLE_WITH: Final = ("messages", "files", "schema", "tools")
"""Options with which a text is not taken apart."""
_NOT_READ: Final = "the text of the source"


@dataclass(frozen=True, slots=True)
class TextWork:
    """What is done with a text.

    Parameters:
      system: what the model is told to do; the caller's own instructions come behind it.
      max_tokens: of the answer, where the caller does not say.
      in_parts: does it with a text of any length; None: a text over the model's window is refused.
      at_once: the tokens of a text that one of its calls takes.
    """

    operation: str
    system: str
    max_tokens: int = 1_024
    in_parts: Callable[[Asking, str], Awaitable[Reply]] | None = None
    at_once: Callable[[Asking], int] = room_for_text

    def check(self, text: str | None, source: str | None, options: Mapping[str, Any]) -> None:
        """The arguments of a job. Raises InvalidArguments."""
        refuse_classes(options)
        asked = self._asking(text, source, options)
        if source is not None:
            check_sources([source], tenant=asked.tenant)
        if source is None and not self._is_long(text, options):
            check_asking(asked)
        else:
            check_writer(asked)
            check_batch(asked)
            check_parts(text or "", self.at_once(asked))

    async def do(self, text: str | None, source: str | None, options: Mapping[str, Any]) -> Reply:
        """Raises as ``call``."""
        with as_rejects():
            asked = self._asking(text, source, options)
            if source is not None:
                text = await _text_of(source, asked.tenant)
                asked = self._asking(text, None, options)
        if text is not None and self.in_parts is not None and self._is_long(text, options):
            return await _bounded(await self.in_parts(asked, text), asked)
        with as_rejects():
            check_asking(asked)
        return await answer(asked)

    def _asking(self, text: str | None, source: str | None, options: Mapping[str, Any]) -> Asking:
        if text is not None and source is not None:
            raise InvalidArguments("give a text or a source of it, not both")
        if source is not None:
            check_text("source", source)
        told = options.get("system")
        check_words(system="" if told is None else told)
        system = self.system if told is None else f"{self.system}\n{told}"
        given = {"max_tokens": self.max_tokens, **options, "system": system}
        return asking(self.operation, text if source is None else _NOT_READ, **given)

    def _is_long(self, text: str | None, options: Mapping[str, Any]) -> bool:
        """Whether it may be taken apart."""
        return self.in_parts is not None and text is not None and not any(options.get(name) for name in _WHOLE_WITH)


async def _bounded(reply: Reply, asked: Asking) -> Reply:
    """What a job's result can hold: a longer text goes to storage, and the reply says where."""
    job, data = current_job(), reply["text"].encode("utf-8", "replace")
    if job is None or len(data) <= _MOST_RESULT:
        return reply
    shelf = Shelf(asked.tenant or "", job.id)
    ref = shelf.reference(f"{asked.name}.txt")
    await shelf.put({ref: Media(media_type="text/plain", data=data)})
    return {**reply, "text": "", "files": [*reply["files"], ref]}


async def _text_of(source: str, tenant: str | None) -> str:
    """Raises Reject: it is no text; and as ``read_media``."""
    [media] = await read_media([source], tenant=tenant, kinds=TEXTS, most_bytes=_MOST_BYTES)
    try:
        return media.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Reject(f"{source:.200} is not UTF-8 text: byte {error.start:,}") from None
