"""How often webhooks may come: a bucket for each provider and sender, refilled evenly.

In this process, and not in Redis: a limit that asked Redis would hand a flood on to it, and to its bill. With several
processes, each lets so many pass.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

__all__ = ["Rates"]

_MOST_SENDERS: Final = 10_000


class Rates:
    """May be shared by threads.

    Parameters:
      per_minute: requests of one sender to one provider's address; so many may also come at once. 0: no bound.
      now: monotonic seconds.
    """

    def __init__(self, per_minute: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._most = per_minute
        self._per_second = per_minute / 60
        self._now = now
        self._lock = threading.Lock()
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()  # what is left, and when

    def wait(self, provider: str, address: str) -> int:
        """Count a request; 0 when it may pass, else the seconds after which one will."""
        if not self._most:
            return 0
        key = (provider, _sender(address))
        with self._lock:
            now = self._now()
            left, at = self._buckets.pop(key, (float(self._most), now))
            left = min(float(self._most), left + (now - at) * self._per_second)
            passes = left >= 1
            self._buckets[key] = (left - 1 if passes else left, now)
            while len(self._buckets) > _MOST_SENDERS:  # who was not seen for the longest time begins anew
                self._buckets.popitem(last=False)
        return 0 if passes else max(1, math.ceil((1 - left) / self._per_second))


def _sender(address: str) -> str:
    """An IPv6 host has a whole network of addresses to choose from."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))
