"""Numbers in what a provider tells of an answer that is paid for: odd ones are passed over, and never raise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

__all__ = ["Counts"]

_MOST: Final = 10**12


class Counts:
    """An object of JSON, or of an SDK, any part of which may be missing or of another form."""

    def __init__(self, told: Any) -> None:
        if hasattr(told, "model_dump"):
            told = told.model_dump(warnings=False)
        self._told: Mapping[str, Any] = told if isinstance(told, Mapping) else {}

    def __bool__(self) -> bool:
        return bool(self._told)

    def of(self, name: str) -> int:
        """A count; 0 where it is none."""
        return int(self._number(name) or 0)

    def seconds(self, name: str) -> float:
        """A length; 0 where it is none."""
        return float(self._number(name) or 0)

    def billed(self) -> Decimal | None:
        """Dollars, as OpenRouter and Perplexity tell what they bill; None where they do not."""
        total = self.part("cost")
        return total._number("total_cost") if total else self._number("cost")

    def word(self, name: str) -> Any:
        return self._told.get(name)

    def part(self, name: str) -> Counts:
        return Counts(self._told.get(name))

    def parts(self, name: str) -> Iterator[Counts]:
        several = self._told.get(name)
        return map(Counts, several if isinstance(several, list) else ())

    def _number(self, name: str) -> Decimal | None:
        value = self._told.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
            return None
        try:
            found = Decimal(str(value))
            return found if 0 <= found <= _MOST else None
        except (InvalidOperation, ValueError):  # no number, or NaN
            return None
