"""What a program counts by itself: ``meter.count("ai_cost_usd", ("openai", "gpt-4o", "org_7"), 0.0123)``."""

from __future__ import annotations

from fourlane.telling import tell

__all__ = ["meter"]


class _Counting:
    def count(self, name: str, labels: tuple[str, ...], value: float = 1) -> None:
        """A figure of the catalogue (docs/observability.md) goes up by so much."""
        tell.counted(name, labels, value)


meter = _Counting()
