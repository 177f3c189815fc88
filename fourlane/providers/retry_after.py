"""How long a provider asks to be left alone."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from datetime import UTC
from typing import Final

__all__ = ["MOST_MS", "retry_after_ms"]

MOST_MS: Final = 3_600_000
"""A longer wait than this is cut to it."""


def retry_after_ms(headers: Mapping[str, str], *, now_seconds: float | None = None) -> int | None:
    """``Retry-After`` (seconds or a date) or ``retry-after-ms``; None when there is none to read.

    Parameters:
      headers: with names in lower case.
      now_seconds: Unix time, against which a date is measured; now by default.
    """
    exact = headers.get("retry-after-ms", "").strip()
    if _is_number(exact):
        return MOST_MS if len(exact) > 12 else min(int(float(exact)), MOST_MS)
    value = headers.get("retry-after", "").strip()
    if _is_number(value):  # Python refuses to read a number of thousands of digits
        return MOST_MS if len(value) > 9 else min(int(float(value) * 1000), MOST_MS)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    now = time.time() if now_seconds is None else now_seconds
    return min(max(0, int((moment.timestamp() - now) * 1000)), MOST_MS)


def _is_number(text: str) -> bool:
    return text.isascii() and text.replace(".", "", 1).isdigit()
