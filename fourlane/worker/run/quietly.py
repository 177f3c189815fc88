"""For what belongs to the end of a run, and must not keep its outcome from being told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

__all__ = ["log_failure", "quietly"]

log = logging.getLogger("fourlane.worker")


def quietly(call: Callable[..., Any], *args: Any) -> None:
    """Call it; whatever it raises is logged."""
    try:
        call(*args)
    except BaseException:
        log_failure(call)


def log_failure(call: Callable[..., Any]) -> None:
    log.critical("Unexpected failure in %r.", call, exc_info=True)
