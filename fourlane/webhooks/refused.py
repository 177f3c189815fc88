"""Why a webhook is not taken."""

from __future__ import annotations

from typing import Literal

from fourlane.errors import FourlaneError

__all__ = ["Refused", "Unverifiable"]

Reason = Literal["unknown provider", "not configured", "malformed", "signature", "age"]


class Refused(FourlaneError):
    """The request is not taken. The text is for our log: it tells a forger too much.

    Attributes:
      reason: one of a few words, fit for a metric's label.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        self.reason: Reason = reason
        super().__init__(f"{reason}: {detail}" if detail else reason)


class Unverifiable(FourlaneError):
    """It cannot be said now whether the request is genuine (PayPal does not answer): the sender shall come again."""
