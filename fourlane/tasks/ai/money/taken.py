"""What a call took of its model, all its tries together: as the provider tells, else by our own count."""

from __future__ import annotations

from dataclasses import replace

from fourlane.providers.ai import NOTHING, Answer, Usage, was_taken
from fourlane.tasks.ai.money.prices import count_tokens

__all__ = ["Taken", "completed", "counted"]


class Taken:
    """The tries of one call, each of which may be paid for.

    Attributes:
      usages: of those that a provider took.
    """

    def __init__(self, most: Usage) -> None:
        self.usages: list[Usage] = []
        self._most = most
        self._heard = ""

    @property
    def total(self) -> Usage:
        """The tokens of all tries."""
        return Usage(
            input_tokens=sum(usage.input_tokens for usage in self.usages),
            cache_read_tokens=sum(usage.cache_read_tokens for usage in self.usages),
            output_tokens=sum(usage.output_tokens for usage in self.usages),
            reasoning_tokens=sum(usage.reasoning_tokens for usage in self.usages),
            told=all(usage.told for usage in self.usages),
        )

    def begin(self) -> None:
        """Another try."""
        self._heard = ""

    def heard(self, text: str) -> None:
        """A piece of the answer has come."""
        self._heard += text

    def answered(self, answer: Answer) -> Answer:
        """An answer came whole; gives it back with what it took."""
        usage = completed(self._most, answer) if answer.usage.told else counted(self._most, answer)
        self.usages.append(usage)
        return replace(answer, usage=usage)

    def broke(self, error: BaseException) -> Answer:
        """A try failed; gives back what had come of it. A provider that began to answer has counted it."""
        had_come: Answer = getattr(error, "answer", None) or Answer()
        if not had_come.text and self._heard:
            had_come = replace(had_come, text=self._heard)
        usage = had_come.usage
        if usage.told:
            usage = completed(self._most, had_come)
        elif had_come.text or had_come.calls or was_taken(error):
            usage = counted(self._most, had_come)
        if usage is NOTHING or usage == NOTHING:
            return had_come
        self.usages.append(usage)
        return replace(had_come, usage=usage)


def counted(most: Usage, answer: Answer) -> Usage:
    """An estimate of what an answer took whose provider says nothing, by what was asked and what came.

    Parameters:
      most: what it may take at most: what goes in is known of that.
    """
    return replace(most, output_tokens=_written(most, answer), told=False)


def completed(most: Usage, answer: Answer) -> Usage:
    """What a provider said that an answer took, with an estimate of what it left out.

    An answer that broke off was counted to where its provider last said so, which may be its begin: what came counts
    then, beside the thoughts that were told. Never less than the provider said.
    """
    usage, written = answer.usage, _written(most, answer)
    if usage.billed_usd is not None:
        return usage
    if usage.says_nothing:
        return counted(most, answer) if written or answer.vectors or answer.media else usage
    in_other_units = usage.audio_seconds or usage.characters or usage.images
    if answer.finish and ((usage.input_tokens and usage.output_tokens) or not written or in_other_units):
        return usage
    wrote = max(usage.output_tokens, written + usage.reasoning_tokens)
    return replace(usage, input_tokens=usage.input_tokens or most.input_tokens, output_tokens=wrote, told=False)


def _written(most: Usage, answer: Answer) -> int:
    if not most.output_tokens or not (answer.text or answer.calls):
        return 0
    return min(count_tokens(answer.text, *(call.arguments for call in answer.calls)), most.output_tokens)
