"""AI providers: their keys, and how they are called."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
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

Dollars = Annotated[float, Field(ge=0)]


_ModelName = Annotated[str, Field(pattern=r"^(\*|[^/*]+/.+)$")]
_Share = Annotated[float, Field(gt=0, le=1)]


class BudgetOption(BaseModel):
    """What may be spent in a day or a month; of a tenant, a task or a model, or of all."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    usd: Annotated[Decimal, Field(ge=0)]
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


_UNITS: Final = r"^(input|cached_input|cache_write|output|characters|image( \S+)*|minute|request|search)$"
_Prices = dict[Annotated[str, Field(pattern=_UNITS)], Dollars]


class AiOptions(BaseModel):
    """How AI providers are called; what each field means is said in docs/ai.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    base_urls: dict[str, str] = Field(default_factory=dict)
    protocols: dict[Literal["openai", "perplexity", "openrouter"], Literal["responses", "chat"]] = Field(
        default_factory=dict
    )
    models: dict[str, str] = Field(default_factory=dict)
    limits: dict[str, dict[str, Annotated[float, Field(ge=0)]]] = Field(default_factory=dict)
    fallbacks: dict[str, list[str]] = Field(default_factory=dict)
    end_of_life: dict[str, date | None] = Field(default_factory=dict)
    prices: dict[str, _Prices] = Field(default_factory=dict)
    unpriced_usd: Annotated[Decimal, Field(gt=0)] | None = None
    budgets: list[BudgetOption] = Field(default_factory=list)
    warn_at: _Share = 0.8
    budgets_usd: dict[str, Dollars] = Field(default_factory=dict)
    over_budget: Literal["refuse", "postpone"] = "refuse"
    batch_wait_seconds: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    batch_within_seconds: Annotated[float, Field(ge=600, le=86_400)] = 86_400.0
    log_rows: bool = False


def _first_fault(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{place}: {first['msg']}; {_FIX}") from None


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
