"""What a call takes and costs. Calls nobody.

Money is exact: Decimals, rounded once to billionths of a dollar. A call can cost less than a millionth.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from fourlane.providers.ai import BASE_URLS, Usage
from fourlane.providers.ai.perplexity import model_behind
from fourlane.tasks.ai.config import NANO, configured
from fourlane.tasks.ai.money.in_tokens import in_tokens
from fourlane.tasks.ai.options import check_text, check_whole

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice, PriceCalculation

    from fourlane.tasks.ai.config import AiConfig

__all__ = [
    "Charge",
    "Estimate",
    "charge",
    "context_window",
    "cost",
    "count_tokens",
    "estimate",
    "priced_models",
    "prices_source",
]

_FLAT_PRICES: Final[Mapping[str, Mapping[str, str]]] = {
    # 2026-11: what genai-prices does not know. An image's price by its size and quality.
    "openai/dall-e-3": {
        "image": "0.04",
        "image 1024x1024 hd": "0.08",
        "image 1024x1792": "0.08",
        "image 1792x1024": "0.08",
        "image 1024x1792 hd": "0.12",
        "image 1792x1024 hd": "0.12",
    },
    "openai/omni-moderation-latest": {"input": "0"},
}
_KEPT_SECONDS: Final = 60
_BATCH: Final = {"processing": "batch"}


@dataclass(frozen=True, slots=True)
class Charge:
    """What is booked for a call.

    Parameters:
      nano: billionths of a dollar.
      known: whether the model has a price; without one it is what ``unpriced_usd`` says, else nothing.
      estimated: the provider said nothing of what the call took.
    """

    nano: int
    known: bool
    estimated: bool

    @property
    def usd(self) -> float:
        return self.nano / NANO

    @property
    def priced(self) -> bool:
        """Whether anything is known that can be held against a budget."""
        return self.known or self.nano > 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a call may take: tokens of the prompt (4 bytes each, an approximation), and the most it may cost.

    Parameters:
      cost_usd: None: nobody knows a price. cost_known: False: no price is known, it is what ``unpriced_usd`` says.
    """

    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    cost_known: bool = True


def estimate(model: str, prompt: str, *, max_tokens: int = 1_024, system: str | None = None) -> Estimate:
    """Estimate before running; calls nobody. Raises InvalidArguments: what could not be asked."""
    check_text("model", model)
    check_text("prompt", prompt)
    check_whole("max_tokens", max_tokens, 1)
    config = configured()
    full = config.living(model)[0]
    tokens = count_tokens(prompt, system)
    most = charge(config, full, [Usage(input_tokens=tokens, output_tokens=max_tokens)])
    return Estimate(full, tokens, max_tokens, most.usd if most.priced else None, most.known)


def count_tokens(*texts: str | None) -> int:
    """About how many tokens a model reads."""
    # Bytes, so that scripts of many bytes a letter, which take more tokens, are not counted too low.
    return sum(len((text or "").encode("utf-8", "replace")) for text in texts) // 4 + 8


def charge(config: AiConfig, full: str, usages: Iterable[Usage]) -> Charge:
    """What is booked for a call whose tries took so much."""
    dollars, known, estimated = Decimal(0), True, False
    for usage in usages:
        one = cost(config, full, usage)
        known = known and one is not None
        estimated = estimated or not usage.told
        dollars += (config.unpriced_usd or Decimal(0)) if one is None else one
    return Charge(int((dollars * NANO).to_integral_value(ROUND_HALF_UP)), known, estimated)


def cost(config: AiConfig, full: str, usage: Usage) -> Decimal | None:
    """Dollars: what the provider says that it bills, else usage by price; None where nobody knows the price."""
    if usage.billed_usd is not None:
        return usage.billed_usd
    provider = full.partition("/")[0]
    own = config.prices.get(full) or config.prices.get(f"{provider}/*") or _FLAT_PRICES.get(full)
    if own is not None:
        return _by_own(own, usage)
    return _by_package(_as_priced(config, full), usage, _now())


def _as_priced(config: AiConfig, full: str) -> str:
    """By which name the table of prices has a model: Perplexity's are one, where they are not asked by chat."""
    provider, _, name = full.partition("/")
    is_agent = provider == "perplexity" and config.protocols.get(provider) != "chat"
    return f"{provider}/{model_behind(name)}" if is_agent else full


def _by_own(own: Mapping[str, Any], usage: Usage) -> Decimal:
    """By prices that were given by hand; a cached token costs as any other where nothing else is said."""

    def price(*names: str) -> Decimal:
        return next((Decimal(str(own[name])) for name in names if name in own), Decimal(0))

    fresh = usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens
    tokens = fresh * price("input") + usage.output_tokens * price("output")
    tokens += usage.cache_read_tokens * price("cached_input", "input")
    tokens += usage.cache_write_tokens * price("cache_write", "input")
    image = price(f"image {usage.image}", f"image {usage.image.partition(' ')[0]}", "image")
    others = usage.images * image + Decimal(str(usage.audio_seconds)) * price("minute") / 60
    others += usage.characters * price("characters") / 1_000_000
    calls = usage.searches * price("search") + usage.requests * price("request")
    return (tokens / 1_000_000 + others) / (2 if usage.half else 1) + calls


def priced_models() -> list[str]:
    """``provider/model`` of all of our providers' that genai-prices knows; none where it is not installed."""
    try:
        from genai_prices import data
    except ModuleNotFoundError:
        return []
    ours = (provider for provider in data.providers if provider.id in BASE_URLS)
    return [f"{provider.id}/{model.id}" for provider in ours for model in provider.models]


def _now() -> int:
    """For so long what genai-prices says is kept: a look takes it as long as all else of a small call. Prices may be
    other ones at another time of the day."""
    return int(time.monotonic() // _KEPT_SECONDS)


@lru_cache(maxsize=4_096)
def _by_package(full: str, usage: Usage, now: int) -> Decimal | None:
    """By genai-prices; None where it is not installed, or does not know the model or what is paid of it."""
    try:
        import genai_prices
    except ModuleNotFoundError:
        return None
    provider, _, name = full.partition("/")
    context = _BATCH if usage.half else None

    def priced(taken: Usage) -> PriceCalculation:
        units = genai_prices.Usage(**_units(taken))
        return genai_prices.calc_price(units, model_ref=name, provider_id=provider, price_context=context)

    try:
        told = priced(usage)
    except LookupError:
        return None
    if not _speaks_of(told.model_price, usage):
        if not _speaks_of(told.model_price, in_tokens(provider, usage)):
            return None
        told = priced(in_tokens(provider, usage))
    total = told.total_price
    if usage.half and not any(variant.when == _BATCH for variant in told.model.price_variants or ()):
        searches = genai_prices.Usage(web_searches=usage.searches)  # which no batch makes cheaper
        alone = told.model.calc_price(searches, told.provider).total_price if usage.searches else Decimal(0)
        total = (total - alone) / 2 + alone
    return total


def _units(usage: Usage) -> dict[str, Any]:
    """A usage in the units of genai-prices. What counts in a part is kept below the whole, or it refuses all."""
    read = max(usage.input_tokens, usage.cache_read_tokens + usage.cache_write_tokens)
    written = max(usage.output_tokens, usage.reasoning_tokens, usage.output_audio_tokens, usage.output_image_tokens)
    fresh = read - usage.cache_read_tokens - usage.cache_write_tokens
    seconds = Decimal(str(usage.audio_seconds))
    audio = min(usage.input_audio_tokens, fresh)
    return {
        "input_tokens": read,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_1h_tokens": min(usage.cache_write_1h_tokens, usage.cache_write_tokens),
        "input_audio_tokens": audio,
        "input_image_tokens": min(usage.input_image_tokens, fresh - audio),
        # Text, whatever was read from the cache: nobody says of what it was.
        "cache_audio_read_tokens": 0,
        "cache_image_read_tokens": 0,
        "cache_audio_write_tokens": 0,
        "cache_image_write_tokens": 0,
        "output_tokens": written,
        "output_reasoning_tokens": usage.reasoning_tokens,
        "output_audio_tokens": usage.output_audio_tokens,
        "output_image_tokens": usage.output_image_tokens,
        "audio_seconds": seconds,
        "input_audio_seconds": seconds,
        "input_characters": usage.characters,
        "web_searches": usage.searches,
    }


def _speaks_of(price: ModelPrice, usage: Usage) -> bool:
    """Whether a model's prices speak of what a call took; without any it is free of charge."""
    priced = [name for name, value in vars(price).items() if value is not None]
    taken = {
        "_mtok": usage.tokens,
        "_hours": usage.audio_seconds,
        "_mchars": usage.characters,
        "_kcount": usage.searches,
    }
    spoken = any(name.endswith(unit) for name in priced for unit, amount in taken.items() if amount)
    only_others = bool(usage.images or any(taken.values()))
    return spoken or not priced or not only_others


def context_window(full: str) -> int | None:
    """Tokens that the model can read; None where nobody knows."""
    return _window(full, _now())


@lru_cache(maxsize=256)
def _window(full: str, now: int) -> int | None:
    try:
        import genai_prices
    except ModuleNotFoundError:
        return None
    provider, _, name = full.partition("/")
    try:
        return genai_prices.calc_price(genai_prices.Usage(), model_ref=name, provider_id=provider).model.context_window
    except LookupError:
        return None


def prices_source() -> str:
    """Where prices come from. The package carries no date of its own: its release is the age of its prices."""
    try:
        return f"genai-prices {version('genai-prices')}"
    except PackageNotFoundError:
        return "FOURLANE_AI alone; for more, pip install 'fourlane[ai]'"
