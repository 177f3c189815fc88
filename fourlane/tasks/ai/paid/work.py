"""A piece of paid work: how a provider is asked for it, and what it may take at most."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from fourlane.errors import Reject
from fourlane.providers.ai import Account, Answer, Outcome, Usage

__all__ = ["ACCEPTED", "SAYS", "Asked", "NotAccepted", "Work"]

ACCEPTED: Final[tuple[Outcome, ...]] = ("ok", "truncated", "tool_calls")
"""The outcomes that are replies unless the caller says otherwise; others are errors, for which a fallback is asked."""


class Asked(Protocol):
    """Asks a model of an account.

    Parameters:
      model: the provider's own name of it.
      key: the idempotency key.
      heard: gets the text of each piece as it comes, empty where it carries none; each is a sign of life.
    """

    def __call__(self, account: Account, model: str, key: str, heard: Callable[[str], None]) -> Awaitable[Answer]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A piece of paid work.

    Parameters:
      operation: for rows, figures and budgets: ``generate``, ``image`` …
      model: as it was asked for; its fallbacks are tried where it fails.
      most: what it may take at most: reserved from budgets and limits before it is done.
      accept: the outcomes that are replies.
      silent: what is said does not go to the job's output.
      makes_files: its answer is more than text, and needs a storage that is well before anything is paid.
      inline_bytes: a larger answer is kept in storage; None: as one is that has the job to itself.
      ready: fetches what the question needs, before anybody is asked; not called where the answer is kept already.
      seconds: for so long at least it may give no sign of life.
      request: what it is as a request of a batch, of an account, a model and the idempotency key: it is asked in one,
        and ``most`` is half as dear. None: it is asked at once. Called when ``ready`` was.
    """

    operation: str
    model: str
    ask: Asked
    most: Usage
    accept: Collection[Outcome] = ACCEPTED
    silent: bool = False
    makes_files: bool = False
    inline_bytes: int | None = None
    ready: Callable[[], Awaitable[object]] | None = None
    seconds: float = 0.0
    request: Callable[[Account, str, str], Mapping[str, Any]] | None = None


SAYS: Final[dict[Outcome, str]] = {
    "ok": "answered",
    "truncated": "was cut off before its answer was whole",
    "tool_calls": "wants tools called",
    "refused": "refused the content",
    "blocked": "had the content blocked by its provider",
    "empty": "gave an empty answer",
}
"""What is said of a model whose answer ended so."""


class NotAccepted(Reject):
    """The answer ended in a way that the caller does not accept. It is paid for and booked.

    Attributes:
      reply: what had come (``fourlane.tasks.ai.Reply``).
    """

    def __init__(self, message: str, reply: Any) -> None:
        super().__init__(message)
        self.reply = reply
