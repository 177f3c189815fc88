"""What a call may take and cost, before and after it. Calls nobody."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from fourlane.providers.ai import Answer
from fourlane.tasks.ai.config import MICRO, configured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fourlane.tasks.ai.config import AiConfig

__all__ = ["Estimate", "context_window", "cost", "count_tokens", "estimate", "most", "prices_source"]

# What genai-prices does not know: dollars for an image of 1024 x 1024, and for a minute of audio.
_FLAT_PRICES: Final[Mapping[str, Mapping[str, float]]] = {
    "openai/dall-e-3": {"image": 0.04},
    "openai/whisper-1": {"minute": 0.006},
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a call may take: tokens of the prompt (4 bytes each, an approximation), and the most it may cost."""

    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float | None


def estimate(model: str, prompt: str, *, max_tokens: int = 1_024, system: str | None = None) -> Estimate:
    """Estimate before running; calls nobody. Raises InvalidArguments: unknown model."""
    config = configured()
    full = config.resolve(model)
    tokens = count_tokens(prompt, system)
    dollars = most(config, full, tokens, max_tokens)
    return Estimate(full, tokens, max_tokens, None if dollars is None else float(dollars))


def count_tokens(prompt: str, system: str | None) -> int:
    """About how many tokens a model reads."""
    # Bytes, so that scripts of many bytes a letter, which take more tokens, are not counted too low.
    return (len(prompt.encode("utf-8", "replace")) + len((system or "").encode("utf-8", "replace"))) // 4 + 8


def most(config: AiConfig, full: str, input_tokens: int, max_tokens: int) -> Decimal | None:
    """Dollars that a call may cost at most; of audio, whose length nobody knows yet, a minute is taken."""
    return cost(config, full, Answer("", input_tokens, max_tokens, seconds=60.0))


def cost(config: AiConfig, full: str, answer: Answer) -> Decimal | None:
    """Dollars; None where nobody knows the price."""
    own = config.prices.get(full) or _FLAT_PRICES.get(full)
    if own is not None:
        millions = Decimal(answer.input_tokens) * Decimal(str(own.get("input", 0)))
        millions += Decimal(answer.output_tokens) * Decimal(str(own.get("output", 0)))
        minutes = Decimal(str(answer.seconds)) / 60
        return millions / MICRO + Decimal(str(own.get("image", 0))) + minutes * Decimal(str(own.get("minute", 0)))
    priced = _priced(full, answer)
    return None if priced is None else Decimal(priced.total_price)


def context_window(full: str) -> int | None:
    """Tokens that the model can read; None where nobody knows."""
    priced = _priced(full, Answer(""))
    return None if priced is None else priced.model.context_window


def _priced(full: str, answer: Answer) -> Any:
    """What genai-prices says of an answer of a model; None where it is not installed or does not know the model."""
    try:
        import genai_prices
    except ModuleNotFoundError:
        return None
    provider, _, name = full.partition("/")
    usage = genai_prices.Usage(input_tokens=answer.input_tokens, output_tokens=answer.output_tokens)
    try:
        return genai_prices.calc_price(usage, model_ref=name, provider_id=provider)
    except LookupError:
        return None


def prices_source() -> str:
    """Where prices come from. The package carries no date of its own: its release is the age of its prices."""
    try:
        return f"genai-prices {version('genai-prices')}"
    except PackageNotFoundError:
        return "FOURLANE_AI alone; for more, pip install 'fourlane[ai]'"
