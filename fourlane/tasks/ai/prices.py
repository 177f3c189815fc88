"""What a call may take and cost, before and after it. Calls nobody."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from fourlane.providers.ai import BASE_URLS, Usage
from fourlane.tasks.ai.config import MICRO, configured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fourlane.tasks.ai.config import AiConfig

__all__ = ["Estimate", "context_window", "cost", "count_tokens", "estimate", "priced_models", "prices_source"]

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
    return Estimate(full, tokens, max_tokens, cost(config, full, Usage(input_tokens=tokens, output_tokens=max_tokens)))


def count_tokens(*texts: str | None) -> int:
    """About how many tokens a model reads."""
    # Bytes, so that scripts of many bytes a letter, which take more tokens, are not counted too low.
    return sum(len((text or "").encode("utf-8", "replace")) for text in texts) // 4 + 8


def cost(config: AiConfig, full: str, usage: Usage) -> float | None:
    """Dollars; None where nobody knows the price."""
    own = config.prices.get(full) or _FLAT_PRICES.get(full)
    if own is not None:
        millions = Decimal(usage.input_tokens) * Decimal(str(own.get("input", 0)))
        millions += Decimal(usage.output_tokens) * Decimal(str(own.get("output", 0)))
        minutes = Decimal(str(usage.audio_seconds)) / 60
        images = usage.images * Decimal(str(own.get("image", 0)))
        return float(millions / MICRO + images + minutes * Decimal(str(own.get("minute", 0))))
    priced = _priced(full, usage)
    return None if priced is None else float(priced.total_price)


def context_window(full: str) -> int | None:
    """Tokens that the model can read; None where nobody knows."""
    priced = _priced(full, Usage())
    return None if priced is None else priced.model.context_window


def priced_models() -> list[str]:
    """``provider/model`` of all of our providers' that genai-prices knows; none where it is not installed."""
    try:
        from genai_prices import data
    except ModuleNotFoundError:
        return []
    ours = (provider for provider in data.providers if provider.id in BASE_URLS)
    return [f"{provider.id}/{model.id}" for provider in ours for model in provider.models]


def _priced(full: str, usage: Usage) -> Any:
    """What genai-prices says of a usage of a model; None where it is not installed or does not know the model."""
    try:
        import genai_prices
    except ModuleNotFoundError:
        return None
    provider, _, name = full.partition("/")
    taken = genai_prices.Usage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
    try:
        return genai_prices.calc_price(taken, model_ref=name, provider_id=provider)
    except LookupError:
        return None


def prices_source() -> str:
    """Where prices come from. The package carries no date of its own: its release is the age of its prices."""
    try:
        return f"genai-prices {version('genai-prices')}"
    except PackageNotFoundError:
        return "FOURLANE_AI alone; for more, pip install 'fourlane[ai]'"
