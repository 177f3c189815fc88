"""What can go wrong with a request."""

from __future__ import annotations

from typing import Final, Literal

from fourlane.errors import FourlaneError

__all__ = ["NO_ADDRESS", "Reason", "TargetRefused", "TransportError", "explained"]

Reason = Literal["timeout", "DNS", "connection refused", "unreachable", "TLS", "connection lost", "protocol"]
NO_ADDRESS: Final = "the name leads to no address that may be called"
"""Said of a name that nobody knows as of one that is ours: who gave us the URL must not learn which names we have."""


class TargetRefused(FourlaneError, ValueError):
    """We will not send this request: its URL or a header is not allowed, as can be seen without asking anybody.

    Trying again is no use.

    Attributes:
      private: it is only because private and loopback addresses are not allowed.
    """

    def __init__(self, text: str, *, private: bool = False) -> None:
        self.private = private
        super().__init__(text)


class TransportError(FourlaneError):
    """No complete answer came back. Trying again may help, and the receiver may have got the request.

    The text is fit for who gave us the URL: it never has an address, or what our DNS knows.

    Attributes:
      reason: the kind of failure, one of a few words, fit for a metric's label.
      detail: more of it, for the operator alone.
      private: it is only because private and loopback addresses are not allowed.
    """

    def __init__(self, reason: Reason, said: str = "", *, detail: str = "", private: bool = False) -> None:
        self.reason: Reason = reason
        self.detail = detail
        self.private = private
        super().__init__(f"{reason}: {said}" if said else reason)


def explained(error: TargetRefused | TransportError, setting: str) -> str:
    """What the operator is to know: all of it, and the setting that allows it where one does."""
    detail = error.detail if isinstance(error, TransportError) else ""
    return (detail or str(error)) + (f"; {setting}=true allows it" if error.private else "")
