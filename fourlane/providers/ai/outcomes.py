"""What each protocol's words for the end of an answer mean.

A word that is not here is never a silent success: an answer that says something is ``truncated``, so that paid text is
kept but not called whole; one that says nothing is ``blocked``, so that a fallback is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fourlane.providers.ai.answer import Outcome

__all__ = ["ANTHROPIC", "CHAT", "GOOGLE", "REFUSED_RESPONSES", "RESPONSES", "unknown"]

Words = Mapping[str, Outcome]


def _words(table: Mapping[Outcome, str]) -> Words:
    return {word: outcome for outcome, words in table.items() for word in words.split()}


CHAT: Final = _words(
    {
        # Gateways pass on the words of those behind them.
        "ok": "stop end_turn eos eos_token stop_sequence completed",
        "truncated": "length max_tokens model_length max_output_tokens",
        "tool_calls": "tool_calls function_call tool_use",
        "blocked": "content_filter safety",
        "refused": "refusal",
    }
)
RESPONSES: Final = _words(
    {
        "ok": "completed",
        "truncated": "max_output_tokens max_messages steered",
        "blocked": "content_filter",
    }
)
REFUSED_RESPONSES: Final = frozenset(
    {"bio_policy", "image_content_policy_violation", "invalid_prompt", "misalignment_policy_violation"}
)
"""Codes of failed responses that hold the question back rather than say that something broke."""
ANTHROPIC: Final = _words(
    {
        "ok": "end_turn stop_sequence",
        # Paused: the provider's own tools took long, and it would go on if asked to.
        "truncated": "max_tokens model_context_window_exceeded pause_turn",
        "tool_calls": "tool_use",
        "refused": "refusal",
    }
)
GOOGLE: Final = _words(
    {
        "ok": "STOP",
        "truncated": "MAX_TOKENS TOO_MANY_TOOL_CALLS CONTINUATION",
        "blocked": """SAFETY RECITATION LANGUAGE OTHER BLOCKLIST PROHIBITED_CONTENT SPII
        MODEL_ARMOR PUP_LIMITED_DISABLED ESCALATION MISSING_THOUGHT_SIGNATURE
        IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT IMAGE_OTHER IMAGE_RECITATION NO_IMAGE
        MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL MALFORMED_RESPONSE""",
    }
)


def unknown(says_something: bool) -> Outcome:
    """What an end means whose word nobody knows."""
    return "truncated" if says_something else "blocked"
