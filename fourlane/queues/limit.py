"""What holds a queue back, as it lies beside its service's jobs."""

from __future__ import annotations

from typing import Final

import msgspec

from fourlane.errors import SettingsError

__all__ = ["Limit", "read_limits"]

# As settings have them: what nobody needs, and the scripts would not count exactly.
_MOST: Final = 1_000_000_000
_MOST_MS: Final = 315_360_000_000


class Limit(msgspec.Struct, frozen=True, omit_defaults=True):
    """What holds a queue back. Absent fields are left out of the JSON: to the scripts null is a value."""

    paused: bool = False
    rate: int | None = None
    """Jobs that may start in ``per_ms``."""
    per_ms: int | None = None
    burst: int | None = None
    """Jobs that may start together after a quiet time; None: as many as ``rate``."""
    concurrency: int | None = None
    """Jobs that may run at once, over all workers."""
    source: str = ""
    """Who gave the figures: runtime, settings or task; empty when there is only a pause."""

    def check(self) -> None:
        """Raises SettingsError: a figure is below 1 or beyond all need, or there is neither rate nor concurrency."""
        figures = {"rate": self.rate, "per_ms": self.per_ms, "burst": self.burst, "concurrency": self.concurrency}
        for name, figure in figures.items():
            if figure is not None and figure < 1:
                raise SettingsError(f"{name} must be 1 or more, not {figure}; to stop a queue, pause it")
            most = _MOST_MS if name == "per_ms" else _MOST
            if figure is not None and (type(figure) is not int or figure > most):
                raise SettingsError(f"{name} must be a whole number, {most:,} at most, not {figure}")
        if self.rate is None and (self.per_ms is not None or self.burst is not None):
            raise SettingsError("per_ms and burst need a rate")
        if not self.limits:
            raise SettingsError("give a rate or a concurrency")

    @property
    def limits(self) -> bool:
        """True when there is more than a pause."""
        return self.rate is not None or self.concurrency is not None


_read = msgspec.json.Decoder(dict[str, Limit]).decode


def read_limits(text: bytes | str) -> dict[str, Limit]:
    """The pauses and limits of a service, by the tier's digit. What cannot be read limits nothing."""
    try:
        return _read(text) if text else {}
    except msgspec.DecodeError:
        return {}
