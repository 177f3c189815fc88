"""What a call gives to the one who made it: JSON, so that it can be a job's result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

from fourlane.providers.ai import Answer, Outcome
from fourlane.tasks.ai.money.prices import Charge

__all__ = ["Reply", "reply_of", "summed"]


class Reply(TypedDict):
    """The result of a call.

    text: of the answer, without thoughts; of a transcription what was heard.
    outcome: ``ok``, or what kept it from being whole (``fourlane.providers.ai.Outcome``); finish: the provider's word.
    model: ``provider/model`` that answered, which is another than was asked when a fallback did.
    tool_calls: ``{"id", "name", "arguments"}``, the last as JSON text. citations: ``{"url", "title", …}``.
    raw: of an answer that wants tools called: its turn as the provider wants it back (``messages``), else None.
    data: what the text holds, where a schema was asked for; the vectors of an embedding, the verdicts of a moderation.
    files: references to what was made (``fourlane.storage``): images, speech.
    output_tokens: thoughts included, which ``reasoning_tokens`` counts alone; input_tokens: cached ones included.
    cost_usd: in dollars, as booked. cost_known: false where no price is known. cost_estimated: the provider told no
      usage.
    """

    text: str
    outcome: Outcome
    finish: str
    model: str
    tool_calls: list[dict[str, str]]
    raw: Mapping[str, Any] | None
    citations: list[dict[str, Any]]
    data: Any
    files: list[str]
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: float
    cost_known: bool
    cost_estimated: bool


def reply_of(full: str, answer: Answer, charged: Charge, files: list[str]) -> Reply:
    """The reply of an answer."""
    usage = answer.usage
    return {
        "text": answer.text,
        "outcome": answer.outcome,
        "finish": answer.finish,
        "model": full,
        "tool_calls": [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in answer.calls],
        "raw": answer.raw if answer.calls else None,
        "citations": [
            {"url": one.url, "title": one.title, "quote": one.quote, "start": one.start, "end": one.end}
            for one in answer.citations
        ],
        "data": [[float(f"{number:.9g}") for number in vector] for vector in answer.vectors]
        or [dict(verdict) for verdict in answer.verdicts]
        or None,
        "files": files,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost_usd": charged.usd,
        "cost_known": charged.known,
        "cost_estimated": charged.estimated,
    }


_ADDED: Final = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_usd")


def summed(replies: Sequence[Reply]) -> Reply:
    """The last of several replies, with what all of them took, cite and made."""
    whole: dict[str, Any] = {**replies[-1]}
    whole |= {name: sum(reply[name] for reply in replies) for name in _ADDED}
    whole["cost_usd"] = round(whole["cost_usd"], 9)  # as it is booked, to the billionth
    whole["cost_known"] = all(reply["cost_known"] for reply in replies)
    whole["cost_estimated"] = any(reply["cost_estimated"] for reply in replies)
    for name in ("citations", "files"):
        whole[name] = [one for reply in replies for one in reply[name]]
    return whole  # type: ignore[return-value]
