"""AI providers: their keys, and how they are called."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from fourlane.config.groups.group import Group
from fourlane.config.shown import Shown
from fourlane.config.values import ApiKey, json_object

__all__ = ["AiOptions", "AiSettings", "BudgetOption"]

_FIX: Final = "docs/ai.md shows what to write"

_LIMITS: Final = ("requests_per_minute", "tokens_per_minute", "timeout_seconds", "first_seconds", "total_seconds")
_LONGEST_SECONDS: Final = 86_400
_MOST_A_MINUTE: Final = 1_000_000_000


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{json.dumps(value)} is no number; write one, such as 1.5")
    return value


def _limit(given: dict[str, float]) -> dict[str, float]:
    """What bounds the calls of a model or of a provider."""
    for name, value in given.items():
        if name not in _LIMITS:
            meant = _MEANT.get(name) or (get_close_matches(name, _LIMITS, n=1, cutoff=0.5) or [""])[0]
            said = f"did you mean {meant}?" if meant else f"there are {', '.join(_LIMITS)}"
            raise ValueError(f"{name}: there is no such limit; {said}")
        if name.endswith("_seconds"):
            if not 0 < value <= _LONGEST_SECONDS:
                raise ValueError(f"{name}: {value:g} is no time to wait; use more than 0, to {_LONGEST_SECONDS:,}")
        elif not 0 <= value <= _MOST_A_MINUTE or value % 1:
            raise ValueError(f"{name}: {value:g} cannot be counted; use a whole number, 0 for no limit")
    if not given:
        raise ValueError(f"is empty; write {', '.join(_LIMITS)}, or leave it out")
    return given


_MEANT: Final = {"rpm": "requests_per_minute", "tpm": "tokens_per_minute", "timeout": "timeout_seconds"}


def _prices(given: dict[str, float]) -> dict[str, float]:
    if not given:
        raise ValueError('is empty, and would make all calls free; write {"input": 1, "output": 2}, or leave it out')
    return given


def _address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or any(c.isspace() for c in value):
        raise ValueError("is no http or https URL; write one, such as https://gateway.example/v1")
    return value


def _scopes(budgets: list[BudgetOption]) -> list[BudgetOption]:
    seen: set[tuple[str | None, ...]] = set()
    for budget in budgets:
        scope = (budget.per, budget.tenant, budget.task, budget.model)
        if scope in seen:
            raise ValueError(f"two are of the same: per {budget.per}{budget.whose}; write one")
        seen.add(scope)
    return budgets


_Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Dollars = Annotated[_Number, Field(ge=0)]
_Provider = Literal["anthropic", "google", "openai", "openrouter", "perplexity"]
_Limits = Annotated[dict[str, _Number], AfterValidator(_limit)]

_ModelName = Annotated[str, Field(pattern=r"^(\*|[^/*]+/.+)$")]
_Share = Annotated[_Number, Field(gt=0, le=1)]


class BudgetOption(BaseModel):
    """What may be spent in a day or a month; of a tenant, a task or a model, or of all."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    usd: Annotated[Decimal, BeforeValidator(_number), Field(ge=0)]
    per: Literal["day", "month"] = "month"
    tenant: str | None = None
    task: str | None = None
    model: _ModelName | None = None
    warn_at: _Share | None = None

    @model_validator(mode="after")
    def _one_of(self) -> BudgetOption:
        if self.task is not None and self.model is not None:
            raise ValueError("a budget is of a task or of a model; write two")
        return self

    @property
    def whose(self) -> str:
        """As words."""
        given = {"tenant": self.tenant, "task": self.task, "model": self.model}
        return "".join(f", {kind} {name or '-'}" for kind, name in given.items() if name is not None)


_UNITS: Final = r"^(input|cached_input|cache_write|output|characters|image( \S+)*|minute|request|search)$"
_Prices = Annotated[dict[Annotated[str, Field(pattern=_UNITS)], Dollars], AfterValidator(_prices)]


class AiOptions(BaseModel):
    """How AI providers are called; what each field means is said in docs/ai.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    base_urls: dict[_Provider, Annotated[str, AfterValidator(_address)]] = Field(default_factory=dict)
    protocols: dict[Literal["openai", "perplexity", "openrouter"], Literal["responses", "chat"]] = Field(
        default_factory=dict
    )
    models: dict[str, str] = Field(default_factory=dict)
    limits: dict[str, _Limits] = Field(default_factory=dict)
    fallbacks: dict[str, list[str]] = Field(default_factory=dict)
    end_of_life: dict[str, date | None] = Field(default_factory=dict)
    prices: dict[str, _Prices] = Field(default_factory=dict)
    unpriced_usd: Annotated[Decimal, BeforeValidator(_number), Field(gt=0)] | None = None
    budgets: Annotated[list[BudgetOption], AfterValidator(_scopes)] = Field(default_factory=list)
    warn_at: _Share = 0.8
    budgets_usd: dict[str, Dollars] = Field(default_factory=dict)
    over_budget: Literal["refuse", "postpone"] = "refuse"
    batch_wait_seconds: Annotated[_Number, Field(ge=0, le=86_400)] = 60.0
    batch_within_seconds: Annotated[_Number, Field(ge=600, le=86_400)] = 86_400.0
    log_rows: StrictBool = False

    @model_validator(mode="after")
    def _one_budget_each(self) -> AiOptions:
        for budget in self.budgets:
            plain = budget.per == "month" and budget.task is None and budget.model is None
            if plain and budget.tenant in self.budgets_usd:
                raise ValueError(f"budgets and budgets_usd both bound tenant {budget.tenant} per month; write one")
        return self


def _first_fault(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"] if part != "[key]")
        said = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
        raise ValueError(f"{place}: {said}; {_FIX}" if place else f"{said}; {_FIX}") from None


def _show(options: AiOptions) -> str:
    return options.model_dump_json(exclude_defaults=True)


class AiSettings(Group):
    openai_api_key: ApiKey | None = Field(None, validation_alias="OPENAI_API_KEY")
    anthropic_api_key: ApiKey | None = Field(None, validation_alias="ANTHROPIC_API_KEY")
    google_ai_api_key: ApiKey | None = Field(None, validation_alias="GOOGLE_AI_API_KEY")
    perplexity_api_key: ApiKey | None = Field(None, validation_alias="PERPLEXITY_API_KEY")
    openrouter_api_key: ApiKey | None = Field(None, validation_alias="OPENROUTER_API_KEY")
    ai: Annotated[AiOptions, WrapValidator(_first_fault), json_object(_FIX), Shown(_show)] = Field(
        default_factory=AiOptions
    )
    """Models, limits, prices, budgets and addresses of AI providers; in the variable, a JSON object."""
