"""How this process calls AI providers: models, keys, addresses, limits, prices, budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from fourlane.db.setup import database
from fourlane.errors import InvalidArguments, Reject
from fourlane.providers.ai import BASE_URLS, Account
from fourlane.providers.health import Rules, Target, fingerprint
from fourlane.root import Root, root

if TYPE_CHECKING:
    from fourlane.config.groups.ai import AiSettings

__all__ = ["MICRO", "MODELS", "AiConfig", "config_of", "configure", "configured", "no_key"]

MODELS: Final[Mapping[str, str]] = {
    "gpt-4o": "openai/gpt-4o",
    "dall-e-3": "openai/dall-e-3",
    "whisper": "openai/whisper-1",
    "claude-sonnet-4.5": "anthropic/claude-sonnet-4-5",
    "claude-haiku-4.5": "anthropic/claude-haiku-4-5",
    "gemini-1.5-pro": "google/gemini-1.5-pro",
    "gemini-1.5-flash": "google/gemini-1.5-flash",
    "gemini-2.5-flash": "google/gemini-2.5-flash",
    "sonar": "perplexity/sonar",
}
"""The platform's models by their short names; others are named ``provider/model``."""
MICRO: Final = 1_000_000
"""Millionths of a dollar in one."""
_MAX_PATIENCE: Final = 2.0
_KEY_NAMES: Final = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "google": "GOOGLE_AI_API_KEY",
    "perplexity": "PERPLEXITY_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
}


@dataclass(frozen=True, kw_only=True)
class AiConfig:
    """How this process calls AI providers.

    Parameters:
      api_keys: by provider.
      base_urls: by provider, in place of the real ones.
      protocols: by provider that speaks as OpenAI does, ``responses`` or ``chat``, where not its own.
      models: short names, added to ``MODELS`` or in their place.
      limits: by ``provider/model`` or provider: ``requests_per_minute``, ``tokens_per_minute``, ``timeout_seconds``.
      fallbacks: by model as asked for: the models to try while it is down or at its limit.
      prices: by ``provider/model``, dollars: ``input`` and ``output`` for a million tokens, ``image``, ``minute``.
      budgets_usd: by tenant, dollars a month; ``*`` is for all that are not named. Without either: no bound.
      over_budget: ``refuse`` makes the job a dead letter, ``postpone`` asks again each hour.
      batch_wait_seconds: how long requests wait for others before they are submitted together.
      batch_within_seconds: how long a batch may take; what has no answer by then is asked at once.
      database: for the rows of ``ai_operation_logs``; None writes none.
    """

    api_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    base_urls: Mapping[str, str] = field(default_factory=dict)
    protocols: Mapping[str, Literal["responses", "chat"]] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fallbacks: Mapping[str, list[str]] = field(default_factory=dict)
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    budgets_usd: Mapping[str, float] = field(default_factory=dict)
    over_budget: Literal["refuse", "postpone"] = "refuse"
    batch_wait_seconds: float = 60.0
    batch_within_seconds: float = 86_400.0
    database: Any = None

    def resolve(self, model: str) -> str:
        """``provider/model`` of a name. Raises InvalidArguments."""
        full = self.models.get(model) or MODELS.get(model) or model
        provider, _, name = full.partition("/")
        if provider not in BASE_URLS or not name:
            known = ", ".join(sorted({*MODELS, *self.models}))
            raise InvalidArguments(f"{model!r} is no model; use PROVIDER/MODEL or one of {known}")
        return full

    def account(self, provider: str, timeout_seconds: float) -> Account:
        """Raises Reject: there is no key."""
        key = self.api_keys.get(provider)
        if not key:
            raise Reject(no_key(provider))
        base_url = self.base_urls.get(provider) or BASE_URLS[provider]
        return Account(provider, key, base_url, timeout_seconds, self.protocols.get(provider))

    def target(self, full: str) -> Target:
        """Whose health and limits a model's calls share."""
        provider, _, model = full.partition("/")
        return Target(provider, model, fingerprint(self.api_keys.get(provider, "")))

    def rules(self, full: str) -> Rules:
        given = self.limits.get(full) or self.limits.get(full.partition("/")[0]) or {}
        return Rules(
            requests_per_minute=int(given.get("requests_per_minute", 0)),
            tokens_per_minute=int(given.get("tokens_per_minute", 0)),
            timeout_seconds=float(given.get("timeout_seconds", 30.0)),
            patience_seconds=_MAX_PATIENCE,
        )

    def budget(self, tenant: str) -> int:
        """Millionths of a dollar a month; -1: no bound."""
        dollars = self.budgets_usd.get(tenant, self.budgets_usd.get("*"))
        return -1 if dollars is None else int(dollars * MICRO)


def no_key(provider: str) -> str:
    """What to say where a provider's key is missing."""
    return f"there is no API key for {provider}; set {_KEY_NAMES[provider]}"


_config: AiConfig | None = None


def configure(config: AiConfig | None) -> None:
    """Set how this process calls. Without it, the first call takes the settings' values."""
    global _config
    _config = config


def configured() -> AiConfig:
    """How this process calls. Raises SettingsError."""
    return _config or root().part(config_of)


def config_of(of: Root) -> AiConfig:
    """A part: what the settings say. Raises SettingsError."""
    settings: AiSettings = of.settings
    keys = {
        "openai": settings.openai_api_key,
        "anthropic": settings.anthropic_api_key,
        "google": settings.google_ai_api_key,
        "perplexity": settings.perplexity_api_key,
        "openrouter": settings.openrouter_api_key,
    }
    return AiConfig(
        api_keys={name: key.get_secret_value() for name, key in keys.items() if key is not None},
        database=of.part(database) if settings.ai.log_rows else None,
        **settings.ai.model_dump(exclude={"log_rows"}),
    )
