"""Delayed jobs that need wait no longer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, cast

from fourlane.queues.store import Store

__all__ = ["Hastened", "hasten"]

Hastened = Literal["due", "over", "busy"]
"""due: it may run now. over: it is done, dead, cancelled or forgotten. busy: it runs, or might already."""
_CHUNK: Final = 200


def hasten(store: Store, service: str, job_ids: Sequence[str]) -> list[Hastened]:
    """Let delayed jobs of a service run now; what each turned out to be."""
    words: list[Hastened] = []
    for first in range(0, len(job_ids), _CHUNK):
        found = store.connector.run("hasten", store.service(service).all, job_ids[first : first + _CHUNK])
        words += (cast("Hastened", word.decode()) for word in found)
    return words
