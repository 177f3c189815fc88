"""What a provider's answer says of its health: is it well, is it down, how long does it want silence. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from fourlane.providers.retry_after import MOST_MS, retry_after_ms

__all__ = ["Signal", "Verdict", "quota_silence_ms", "signal_of_error_type", "signal_of_status"]

Verdict = Literal["ok", "down", "limited", "neutral"]

_UNKNOWN_SILENCE: Final = -1


@dataclass(frozen=True, slots=True)
class Signal:
    """What the end of a call says of the provider.

    Parameters:
      verdict: ``ok``; ``down``: the breaker counts it (no connection, too slow, 5xx); ``limited``: it asked for
        silence (429); ``neutral``: the call itself was wrong, which says nothing of the provider.
      again: the same call may succeed in a moment.
      silence_ms: how long it shall not be called; 0: no word of that; -1: it is limited, but not said how long.
    """

    verdict: Verdict
    again: bool = False
    silence_ms: int = 0


_PASSING: Final = frozenset({408, 409, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})


def signal_of_status(status: int, headers: Mapping[str, str], *, now_seconds: float | None = None) -> Signal:
    """What an HTTP answer says of the provider.

    Parameters:
      headers: names in any case that the mapping finds by their small letters.
      now_seconds: Unix time, against which a ``Retry-After`` that is a date is measured; now by default.
    """
    if status < 400:
        return Signal("ok", silence_ms=quota_silence_ms(headers, now_seconds=now_seconds))
    wait_ms = retry_after_ms(headers, now_seconds=now_seconds)
    if status == 429:
        if wait_ms is None:
            wait_ms = quota_silence_ms(headers, now_seconds=now_seconds) or _UNKNOWN_SILENCE
        return Signal("limited", again=True, silence_ms=wait_ms)
    if status in _PASSING or status >= 500:
        # 503 and 529 with a time: it is overloaded, and says until when.
        return Signal("down" if status >= 500 else "neutral", again=True, silence_ms=wait_ms or 0)
    return Signal("neutral")


# A line each: Anthropic's words, OpenAI's, Google's.
_WORDS: Final = (
    (
        Signal("down", again=True),
        """api_error overloaded_error timeout_error
        internal_error server_error server_is_overloaded service_unavailable_error timeout vector_store_timeout
        data_loss deadline_exceeded internal unavailable unknown""",
    ),
    (
        Signal("limited", again=True, silence_ms=_UNKNOWN_SILENCE),
        """rate_limit_error
        rate_limit_exceeded slow_down
        resource_exhausted""",
    ),
    (
        Signal("neutral", again=True),
        """conflict_error
        aborted cancelled""",
    ),
    (
        # An account that is empty is not filled by waiting a minute.
        Signal("neutral"),
        """authentication_error billing_error invalid_request_error not_found_error permission_error request_too_large
        billing_hard_limit_reached billing_not_active insufficient_quota invalid_api_key model_not_found
        bio_policy content_filter content_policy_violation context_length_exceeded data_residency_mismatch
        empty_image_file failed_to_download_image image_content_policy_violation image_file_not_found
        image_file_too_large image_parse_error image_too_large image_too_small invalid_base64_image invalid_image
        invalid_image_format invalid_image_mode invalid_image_url invalid_prompt misalignment_policy_violation
        unsupported_image_media_type unsupported_parameter unsupported_value
        already_exists failed_precondition invalid_argument not_found out_of_range permission_denied unauthenticated
        unimplemented""",
    ),
)
_OF_WORD: Final = {word: signal for signal, words in _WORDS for word in words.split()}


def signal_of_error_type(word: str) -> Signal | None:
    """What the word of an error says of the provider, as it stands in the body: in a stream there is no other sign.

    Parameters:
      word: of Anthropic ``error.type``, of OpenAI ``error.code``, else ``error.type``, of Google ``error.status``, of
        OpenRouter ``error.code``, which is a status. In any case.

    Returns None for a word that is not known.
    """
    word = word.strip().lower()
    if re.fullmatch(r"[45]\d\d", word, re.ASCII):
        return signal_of_status(int(word), {})
    return _OF_WORD.get(word)


# limit, remaining, reset: of OpenAI and those who speak like it, then of Anthropic.
_QUOTAS: Final = tuple(
    (f"{prefix}limit{suffix}", f"{prefix}remaining{suffix}", f"{prefix}reset{suffix}")
    for prefix, suffix in (("x-ratelimit-", "-requests"), ("x-ratelimit-", "-tokens"), ("x-ratelimit-", ""))
) + tuple(
    (f"anthropic-ratelimit-{what}-limit", f"anthropic-ratelimit-{what}-remaining", f"anthropic-ratelimit-{what}-reset")
    for what in ("requests", "tokens", "input-tokens", "output-tokens")
)
_SPAN: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?")


def quota_silence_ms(headers: Mapping[str, str], *, now_seconds: float | None = None) -> int:
    """How long to be silent because an answer's headers say that nothing is left; 0 when something is.

    Both kinds of provider refill all the time and say when all is refilled: one unit is back after that time
    divided by the limit.
    """
    now = time.time() if now_seconds is None else now_seconds
    longest = 0
    for limit_name, remaining_name, reset_name in _QUOTAS:
        remaining, limit = headers.get(remaining_name, ""), headers.get(limit_name, "")
        if remaining.strip() != "0":
            continue
        reset_ms = _span_ms(headers.get(reset_name, ""), now)
        units = int(limit) if limit.isdigit() and 0 < len(limit) < 12 else 1
        longest = max(longest, min(reset_ms, max(1, reset_ms // max(1, units))))
    return min(longest, MOST_MS)


def _span_ms(text: str, now_seconds: float) -> int:
    """``6m0s``, ``20ms``, ``1.5`` (seconds) or a moment as RFC 3339, in milliseconds from now; 0 when unreadable."""
    text = text.strip()
    try:
        if "T" in text:
            return max(0, int((datetime.fromisoformat(text).timestamp() - now_seconds) * 1000))
        match = _SPAN.fullmatch(text)
        if text and match:
            hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
            return int(((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds)
        # A moment as Unix time is far in the future for a span.
        seconds = float(text)
        return max(0, int((seconds - now_seconds if seconds > 1e9 else seconds) * 1000))
    except (ValueError, OverflowError):
        return 0
