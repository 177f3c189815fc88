"""Why a webhook is not taken."""

from __future__ import annotations

from typing import Final, Literal

from fourlane.errors import FourlaneError

__all__ = ["STATUS", "Reason", "Refused", "Unverifiable"]

Reason = Literal[
    "unknown provider",
    "not configured",
    "rate",
    "address",
    "size",
    "slow",
    "malformed",
    "signature",
    "age",
    "transmission",
    "unusable",
]

STATUS: Final[dict[Reason, int]] = {
    "unknown provider": 404,
    "not configured": 503,  # it shall come again, when somebody has told us the secret
    "rate": 429,
    "address": 403,
    "size": 413,
    "slow": 408,
    "malformed": 400,
    "signature": 401,
    "age": 401,
    "transmission": 401,  # genuine, but with another body than before
    "unusable": 400,  # genuine, but no job can carry it
}
"""The answer to each."""


class Refused(FourlaneError):
    """The request is not taken. The text is for our log: it tells a forger too much.

    Attributes:
      reason: one of a few words, fit for a metric's label.
      detail: more, in a few words.
      after_seconds: when it may come again, if that is known.
    """

    def __init__(self, reason: Reason, detail: str = "", *, after_seconds: int = 0) -> None:
        self.reason: Reason = reason
        self.detail = detail
        self.after_seconds = after_seconds
        super().__init__(f"{reason}: {detail}" if detail else reason)


class Unverifiable(FourlaneError):
    """It cannot be said now whether the request is genuine (PayPal does not answer): the sender shall come again."""
