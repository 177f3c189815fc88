"""What payment providers have in their books, in one form for all, and the errors of asking for it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol, TypedDict, TypeVar

from fourlane.errors import FourlaneError
from fourlane.providers.signals import Signal

__all__ = ["Books", "Entry", "Page", "Paid", "Period", "ProviderError", "asked_again", "read_error"]

T = TypeVar("T")
RETRY_SECONDS: Final = (0.1, 0.2, 0.4)
_MOST_RETRY_AFTER_SECONDS: Final = 20.0


class ProviderError(FourlaneError):
    """The provider did not give what it was asked for.

    Attributes:
      passing: whether the same call may succeed later.
      limited: whether there were too many calls.
      after_seconds: when the provider asked to be called again; None when it did not say.
    """

    def __init__(
        self, message: str, *, passing: bool, limited: bool = False, after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.passing = passing
        self.limited = limited
        self.after_seconds = after_seconds


def read_error(error: BaseException) -> Signal:
    """What an error of a call says of its provider's health."""
    if not isinstance(error, ProviderError) or not error.passing:
        return Signal("neutral")
    silence_ms = -1 if error.after_seconds is None else int(error.after_seconds * 1000)
    return Signal("limited", silence_ms=silence_ms) if error.limited else Signal("down", silence_ms=max(0, silence_ms))


@dataclass(frozen=True, slots=True)
class Period:
    """From a moment to another, the second not included. Both have a time zone."""

    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing in a provider's books.

    Parameters:
      object: charge, refund, adjustment, invoice or subscription; balance, which says that ``ref`` moved money; or
        invoice_payment, which says what was ``Paid`` of an invoice.
      ref: the provider's id of it.
      alias: another id under which our books may hold it: a charge's payment intent.
      parent: of a refund, the charge; with its own alias behind it.
      group: two charges of one group pay for the same thing; of an invoice_payment, the invoice.
      amount_minor: in ISO's minor units, never negative; None when it cannot be said.
      currency: upper case.
      status: in the words of our books.
      expected: whether our books must have it. They need not have what failed, or is a draft.
      at: when it happened, as the provider says.
      details: more, for the finding and the repair.
    """

    object: str
    ref: str
    alias: str = ""
    parent: tuple[str, ...] = ()
    group: str = ""
    amount_minor: int | None
    currency: str
    status: str
    expected: bool = True
    at: datetime
    details: Mapping[str, Any] = field(default_factory=dict)


class Paid(TypedDict):
    """A payment of an invoice: the provider's id, in ISO's minor units, in seconds."""

    ref: str
    amount_minor: int
    at: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, and where to go on; ``cursor`` is None at the end. JSON can hold it."""

    entries: list[Entry]
    cursor: dict[str, Any] | None


class Books(Protocol):
    """A provider's books, page by page."""

    @property
    def provider(self) -> str: ...

    @property
    def parts(self) -> tuple[str, ...]:
        """What is read, in this order: names that `page` takes."""
        ...

    def page(self, part: str, period: Period, cursor: dict[str, Any] | None) -> Page:
        """The page of a part at this cursor; None begins. Raises ProviderError."""
        ...

    def close(self) -> None:
        """Close its connections."""
        ...


def asked_again(ask: Callable[[], T], *, sleep: Callable[[float], object] = time.sleep) -> T:
    """Call, and call again up to three times where that may help: after 100, 200 and 400 ms, or as the provider asks.

    Raises:
      ProviderError: that of the last call.
    """
    for pause in RETRY_SECONDS:
        try:
            return ask()
        except ProviderError as error:
            if not error.passing or (error.after_seconds or 0) > _MOST_RETRY_AFTER_SECONDS:
                raise
            # A little apart from others who were turned away in the same moment.
            sleep(max(pause, error.after_seconds or 0) * random.uniform(1, 1.2))
    return ask()
