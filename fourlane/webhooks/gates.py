"""What a request must pass before its body is read: provider, rate and address of its sender, the size that it names.

The cheap ones come first. Redis is asked last, with what this process let pass; of a sender whom it told to wait it is
not asked again until that time is over. So a flood costs it no more than the rate itself.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fourlane.errors import FourlaneError
from fourlane.queues.guards.senders import KnownSenders
from fourlane.webhooks.address import neighbours
from fourlane.webhooks.handlers import SERVICE
from fourlane.webhooks.rate import Rates
from fourlane.webhooks.refused import Refused
from fourlane.webhooks.verify import PROVIDERS

__all__ = ["Gates"]

_log = logging.getLogger("fourlane.webhooks")

_LEFT_ALONE_SECONDS: Final = 5.0


class Gates:
    """Raises Refused at the first that a request does not pass.

    Parameters:
      allow: for a provider, the networks that it may call from; a provider that is not named may call from anywhere.
      per_minute: how many requests a sender may make in a minute, to each provider's address; 0: no bound.
      max_bytes: the largest body.
      senders: gives what all processes know of them.
    """

    def __init__(
        self,
        allow: Mapping[str, Sequence[str]],
        per_minute: int,
        max_bytes: int,
        senders: Callable[[], KnownSenders],
    ) -> None:
        self._allow = {
            provider: [ipaddress.ip_network(network) for network in networks] for provider, networks in allow.items()
        }
        self._per_minute = per_minute
        self._max_bytes = max_bytes
        self._rates = Rates(per_minute)
        self._senders = senders
        self._ask_at = 0.0

    def check(self, provider: str, address: str, length: int | None) -> None:
        """Parameters:
        address: as `fourlane.webhooks.address.plain` gives it.
        length: of the body, as far as the request says.
        """
        known = provider in PROVIDERS
        sender = (provider if known else "", neighbours(address))
        self._check_rate(self._rates.wait(sender))
        if not known:
            raise Refused("unknown provider", repr(provider[:40]))
        self._check_address(provider, address)
        self.check_size(length or 0)
        self._check_rate(self._wait_of_all(sender))

    def check_size(self, length: int) -> None:
        """Before anything is computed over a body."""
        if length > self._max_bytes:
            raise Refused("size", f"over {self._max_bytes:,} bytes")

    def _check_rate(self, wait_seconds: int) -> None:
        if wait_seconds:
            raise Refused("rate", "it comes too often", after_seconds=wait_seconds)

    def _check_address(self, provider: str, address: str) -> None:
        networks = self._allow.get(provider)
        if networks is None:
            return
        if not address:
            raise Refused("address", "its address is not known")
        parsed = ipaddress.ip_address(address)
        if not any(parsed in network for network in networks):
            raise Refused("address", f"{parsed} is not on the list")

    def _wait_of_all(self, sender: tuple[str, str]) -> int:
        """The seconds that a sender must wait by what all processes counted; 0 also when Redis does not say."""
        if not self._per_minute or time.monotonic() < self._ask_at:
            return 0
        try:
            wait_ms = self._senders().wait_ms(SERVICE, ":".join(sender), per_minute=self._per_minute)
        except FourlaneError as error:
            self._ask_at = time.monotonic() + _LEFT_ALONE_SECONDS
            _log.warning("webhooks are counted in this process alone for %.0f s: %s", _LEFT_ALONE_SECONDS, error)
            return 0
        if wait_ms:
            self._rates.hold_up(sender, wait_ms / 1000)
        return math.ceil(wait_ms / 1000)
