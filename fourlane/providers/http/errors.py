"""What can go wrong with a request."""

from __future__ import annotations

from typing import Literal

from fourlane.errors import FourlaneError

__all__ = ["Reason", "TargetRefused", "TransportError"]

Reason = Literal["timeout", "DNS", "connection refused", "unreachable", "TLS", "connection lost", "protocol"]


class TargetRefused(FourlaneError, ValueError):
    """We will not send this request: its URL, an address behind it or a header is not allowed.

    Trying again is no use. The text names the host, but never an address: who gave us the URL may
    read it, and must not learn from it what our DNS knows.
    """


class TransportError(FourlaneError):
    """No complete answer came back. Trying again may help, and the receiver may have got the request.

    Attributes:
      reason: the kind of failure, one of a few words, fit for a metric's label.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        self.reason: Reason = reason
        super().__init__(f"{reason}: {detail}" if detail else reason)
