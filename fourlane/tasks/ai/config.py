"""How this process calls AI providers: models, keys, addresses, limits, prices, budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

from fourlane.db.setup import database
from fourlane.errors import InvalidArguments, Reject
from fourlane.providers.ai import BASE_URLS, Account, family
from fourlane.providers.ai.catalogue import End, end_of
from fourlane.providers.health import Rules, Target, fingerprint
from fourlane.redact import know
from fourlane.root import Root, root
from fourlane.tasks.ai.models.meant import followed, meant
from fourlane.tasks.ai.models.names import MODELS, is_model, no_model, retired, today
from fourlane.tasks.ai.money.budget_rules import NANO, Budget, monthly

if TYPE_CHECKING:
    from fourlane.config.groups.ai import AiOptions, AiSettings

__all__ = ["NANO", "AiConfig", "config_from", "config_of", "configure", "configured", "no_key"]

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
      limits: by ``provider/model`` or provider: ``requests_per_minute``, ``tokens_per_minute``, ``timeout_seconds``
        (of silence), ``first_seconds`` (until the first piece), ``total_seconds``.
      fallbacks: by model as asked for, or ``provider/model``: the models to ask when it fails, or was retired.
      end_of_life: by ``provider/model``, added to what is known or in its place; None: it does not end.
      prices: by ``provider/model`` or ``provider/*``, dollars: ``input``, ``cached_input``, ``cache_write``, ``output``
        for a million tokens, ``characters`` for a million, ``image`` (also ``image SIZE QUALITY``), ``minute``,
        ``request``, ``search``.
      unpriced_usd: what a call is booked at whose price nobody knows; None: nothing, and no budget lets it through.
      budgets_usd: by tenant, dollars a month; ``*`` is for all that are not named. Without any budget: no bound.
      budgets: all other budgets; each that applies to a call is kept.
      warn_at: the share of a budget from which operators are warned.
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
    end_of_life: Mapping[str, date | None] = field(default_factory=dict)
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    unpriced_usd: Decimal | None = None
    budgets_usd: Mapping[str, float] = field(default_factory=dict)
    budgets: Sequence[Budget] = ()
    warn_at: float = 0.8
    over_budget: Literal["refuse", "postpone"] = "refuse"
    batch_wait_seconds: float = 60.0
    batch_within_seconds: float = 86_400.0
    database: Any = None

    def __post_init__(self) -> None:
        know(self.api_keys.values())  # an SDK's error may say the one that was sent

    def resolve(self, model: str) -> str:
        """``provider/model`` of a name; of a short name of ours whose model has ended, what succeeds it.

        Raises InvalidArguments, with names that are close.
        """
        given = self.models.get(model, model)
        full = MODELS.get(given)
        if full is not None:
            return self._living_successor(full)
        if not is_model(given):
            raise InvalidArguments(no_model(given, {*MODELS, *self.models}))
        return given

    def _living_successor(self, full: str) -> str:
        seen = {full}
        while self.has_ended(full) and (end := self.end_of(full)) and end.successor not in {"", *seen}:
            full = end.successor
            seen.add(full)
        return full

    def living(self, model: str) -> tuple[str, ...]:
        """``provider/model`` of the one that is asked for and then of its fallbacks, but for those that have ended.

        Raises InvalidArguments: there is no such model, or none is left.
        """
        full = self.resolve(model)
        others = self.fallbacks.get(model) or self.fallbacks.get(full) or ()
        asked = dict.fromkeys((full, *map(self.resolve, others)))
        found = tuple(one for one in asked if not self.has_ended(one))
        if not found:
            end = self.end_of(full)
            assert end is not None
            raise InvalidArguments(retired(full, end))
        return found

    def end_of(self, full: str) -> End | None:
        """When a model is no longer to be had; None: no end is known."""
        known = end_of(full)
        if full not in self.end_of_life:
            return known
        own = self.end_of_life[full]
        return None if own is None else End(own, known.successor if known else "")

    def has_ended(self, full: str) -> bool:
        end = self.end_of(full)
        return end is not None and end.on <= today()

    def named(self) -> list[str]:
        """The models that the settings name."""
        others = (one for fallbacks in self.fallbacks.values() for one in fallbacks)
        of_tables = (one for one in (*self.limits, *self.prices) if is_model(one))
        return sorted({*self.models.values(), *self.fallbacks, *others, *of_tables})

    def asked(self) -> set[str]:
        """``provider/model`` of those that have a name here or in the settings, and whose provider has a key."""
        names = (name for name in (*MODELS, *self.models, *self.named()) if name in MODELS or is_model(name))
        return {full for full in map(self.resolve, names) if self.api_keys.get(full.partition("/")[0])}

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

    def rules(self, full: str, *, silence_seconds: float = 0.0) -> Rules:
        """How calls of a model are limited, and when they are ended.

        Parameters:
          silence_seconds: for so long at least it may give no sign of life.
        """
        provider, _, model = full.partition("/")
        given = self.limits.get(full) or self.limits.get(provider) or {}
        its, told = family(provider, model), given.get("timeout_seconds")
        silence = max(its.silence_seconds if told is None else told, silence_seconds)
        first = given.get("first_seconds", max(its.first_seconds, silence) if told is None else None)
        return Rules(
            requests_per_minute=int(given.get("requests_per_minute", 0)),
            tokens_per_minute=int(given.get("tokens_per_minute", 0)),
            timeout_seconds=silence,
            first_seconds=first,
            total_seconds=given.get("total_seconds"),
            patience_seconds=_MAX_PATIENCE,
        )

    def all_budgets(self) -> list[Budget]:
        return [*monthly(self.budgets_usd), *self.budgets]


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
    return replace(
        config_from(settings.ai),
        api_keys={name: key.get_secret_value() for name, key in keys.items() if key is not None},
        database=of.part(database) if settings.ai.log_rows else None,
    )


def config_from(options: AiOptions) -> AiConfig:
    """What FOURLANE_AI says, without keys and database. Raises SettingsError: a name in it is of nothing."""
    budgets = [Budget(**one.model_dump()) for one in options.budgets]
    given = options.model_dump(exclude={"log_rows", "budgets"}) | {"models": followed(options.models)}
    config = AiConfig(budgets=budgets, **given)
    return replace(config, **meant(options, config.resolve))
