"""What a call took of its model, all its tries together: as the provider tells, else by our own count."""

from __future__ import annotations

from dataclasses import replace

from fourlane.providers.ai import NOTHING, Answer, Usage, was_taken
from fourlane.tasks.ai.money.prices import count_tokens

__all__ = ["Taken", "counted"]


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
        usage = answer.usage if answer.usage.told else counted(self._most, answer)
        self.usages.append(usage)
        return replace(answer, usage=usage)

    def broke(self, error: BaseException) -> Answer:
        """A try failed; gives back what had come of it. A provider that began to answer has counted it."""
        had_come: Answer = getattr(error, "answer", None) or Answer()
        if not had_come.text and self._heard:
            had_come = replace(had_come, text=self._heard)
        usage = had_come.usage
        if not usage.told and (had_come.text or had_come.calls or was_taken(error)):
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
    written = count_tokens(answer.text, *(call.arguments for call in answer.calls)) if most.output_tokens else 0
    return replace(most, output_tokens=min(written, most.output_tokens), told=False)
