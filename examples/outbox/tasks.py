"""What happens after an order."""

from __future__ import annotations

from pathlib import Path

from fourlane import task


@task(tier="P0", service="outbox-example")
def confirm(order: int, file: str) -> None:
    """Write one line; a real one would send a message."""
    with Path(file).open("a") as lines:
        lines.write(f"{order}\n")
