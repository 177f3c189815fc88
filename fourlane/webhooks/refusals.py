"""What is told of requests that were not taken: a line each, and in measure a record."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fourlane.errors import FourlaneError
from fourlane.webhooks import fault
from fourlane.webhooks.refused import Reason, Refused
from fourlane.webhooks.verify import PROVIDERS

__all__ = ["Refusal", "Refusals"]

_log = logging.getLogger("fourlane.webhooks")

_REPORTS_A_MINUTE: Final = 60


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was not taken, for the record of security events.

    Parameters:
      reason: see `fourlane.webhooks.refused`.
      unreported: refusals since the last report that had none, as there were too many in a minute.
    """

    provider: str
    reason: Reason
    detail: str
    address: str
    unreported: int


class Refusals:
    """Tells of refusals. Raises nothing: a record that fails changes no answer.

    Parameters:
      report: told of each, at most 60 times a minute: a flood of forgeries must not become one of rows.
      clock: Unix time.
    """

    def __init__(self, report: Callable[[Refusal], None] | None, clock: Callable[[], float]) -> None:
        self._report = report
        self._clock = clock
        self._lock = threading.Lock()
        self._minute, self._reports, self._unreported = 0, 0, 0

    def tell(self, provider: str, address: str, refused: Refused) -> None:
        """Parameters:
        provider: as the request named it: any text.
        """
        provider = provider if provider in PROVIDERS else "another"
        detail = ascii(str(refused))[1:-1]  # parts of it come from strangers
        unreported = self._may_report()
        if unreported is not None or refused.reason != "rate":  # a flood must not become one of lines
            # What is genuine and not taken is lost unless somebody looks.
            level = logging.ERROR if refused.reason == "unusable" else logging.WARNING
            _log.log(level, "webhook of %r from %s refused: %s", provider, address or "an unknown address", detail)
            _log.debug("why it was refused", exc_info=refused)
        if self._report is None or unreported is None:
            return
        try:
            self._report(Refusal(provider, refused.reason, detail, address, unreported))
        except FourlaneError as error:
            _log.error("a refused webhook could not be recorded: %s", error)
        except Exception as error:
            _log.error("a refused webhook could not be recorded: %s", fault.told(error))

    def _may_report(self) -> int | None:
        """How many went unreported before this one; None when this one does, too."""
        with self._lock:
            minute = int(self._clock() // 60)
            if minute != self._minute:
                self._minute, self._reports = minute, 0
            if self._reports >= _REPORTS_A_MINUTE:
                self._unreported += 1
                return None
            self._reports += 1
            unreported, self._unreported = self._unreported, 0
            return unreported
