"""What is sent, how a call may end, and what that says of the provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from fourlane.errors import FourlaneError
from fourlane.providers import http
from fourlane.providers.health import Target, fingerprint
from fourlane.providers.signals import Signal, signal_of_status

__all__ = [
    "Attachment",
    "BatchCarrier",
    "Carrier",
    "Impossible",
    "Letter",
    "Link",
    "Message",
    "NotTaken",
    "OneAccount",
    "Receipt",
    "Unclear",
    "read_error",
]


class NotTaken(FourlaneError):
    """The provider did not take it this time, or was not reached. Nothing was sent.

    Attributes:
      response: the provider's answer, which may say when to come again; None when none came.
      down: whether, without an answer, it speaks of the provider itself and not of this message.
    """

    def __init__(self, reason: str, response: http.Response | None = None, *, down: bool = True) -> None:
        self.response = response
        self.down = down
        super().__init__(reason)


class Impossible(FourlaneError):
    """It will never be taken as it is. Nothing was sent.

    Attributes:
      dead: why no message of this channel will reach this address: ``bounce``, there is nobody; ``stop``, its owner
        wants none. None where it says nothing of the address.
    """

    def __init__(self, reason: str, *, dead: Literal["bounce", "stop"] | None = None) -> None:
        self.dead = dead
        super().__init__(reason)


class Unclear(FourlaneError):
    """The call broke off, or its answer makes no sense: it may have been sent.

    Attributes:
      down: whether it speaks of the provider itself and not of this message.
    """

    def __init__(self, reason: str, *, down: bool = True) -> None:
        self.down = down
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with an email."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """Where an alert leads to."""

    href: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is sent. Each carrier uses the parts that its channel has."""

    to: Any = None
    """An address, a phone number, or a push subscription."""
    subject: str = ""
    text: str = ""
    html: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """More headers of an email."""
    reply_to: Sequence[str] = ()
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    attachments: Sequence[Attachment] = ()
    urgent: bool = False
    severity: str = "error"
    source: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    incident: str = ""
    """What an alert is about: alerts of one incident are one to PagerDuty."""
    resolved: bool = False
    links: Sequence[Link] = ()


class Letter(NamedTuple):
    """One message of several, with its key."""

    key: str
    message: Message


@dataclass(frozen=True, slots=True)
class Receipt:
    """It was taken.

    Parameters:
      message_id: the provider's, by which its later reports name the message; empty where it gives none.
    """

    message_id: str


class Carrier(Protocol):
    """One provider's way to send."""

    @property
    def provider(self) -> str: ...

    def target(self, message: Message) -> Target:
        """Whose health counts for it, over all workers."""
        ...

    def send(self, message: Message, *, key: str, since: datetime | None) -> Receipt:
        """Send.

        Parameters:
          key: the same in every attempt for one message, and never used for another.
          since: when an earlier attempt, whose end nobody saw, was made at the earliest; None when there was none.

        Raises:
          NotTaken, Impossible, Unclear
        """
        ...


@runtime_checkable
class BatchCarrier(Carrier, Protocol):
    """One that takes several emails in one request, when they have no attachments.

    Parameters:
      most_at_once: how many.
    """

    @property
    def most_at_once(self) -> int: ...

    def send_batch(self, letters: Sequence[Letter], *, key: str) -> list[Receipt | Impossible]:
        """What became of each. Raises as `send` where it is the same for all.

        Parameters:
          key: the same for the same letters, in the same order, and never used for others.
        """
        ...


class OneAccount:
    """A carrier all of whose calls go to one account, whose health counts."""

    provider: str

    def __init__(self, secret: str) -> None:
        self._target = Target(self.provider, key=fingerprint(secret))

    def target(self, message: Message) -> Target:
        return self._target


def read_error(error: BaseException) -> Signal:
    """What the end of a send says of its provider's health."""
    if isinstance(error, NotTaken) and error.response is not None:
        return signal_of_status(error.response.status, error.response.headers)
    return Signal("down" if isinstance(error, (NotTaken, Unclear)) and error.down else "neutral")
