"""The models that can be asked, each with what is known of it, for people who choose one."""

from __future__ import annotations

from dataclasses import dataclass

from fourlane.providers.ai import Usage
from fourlane.providers.ai.catalogue import End, Kind, kind_of, most_output
from fourlane.tasks.ai.config import AiConfig
from fourlane.tasks.ai.models.names import MODELS
from fourlane.tasks.ai.money.prices import context_window, cost, priced_models

__all__ = ["Listed", "listed"]

_SOME_TOKENS = 1_000  # few enough for the lowest tier of prices


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A model by a name that it can be asked by.

    Parameters:
      full: ``provider/model`` that answers.
      input_usd, output_usd: for a million tokens; None where nobody knows. minute_usd: of sound, where that is billed.
      context: tokens that it reads; most_output: that it says at most.
    """

    name: str
    full: str
    kind: Kind
    input_usd: float | None
    output_usd: float | None
    minute_usd: float | None
    context: int | None
    most_output: int | None
    end: End | None

    @property
    def provider(self) -> str:
        return self.full.partition("/")[0]

    @property
    def model(self) -> str:
        return self.full.partition("/")[2]


def listed(config: AiConfig, *, provider: str = "", everything: bool = False) -> list[Listed]:
    """Those that have a short name, with ``everything`` all whose price or end is known; by provider and name."""
    names = dict.fromkeys([*MODELS, *config.models, *(priced_models() if everything else ())])
    found = [_listed(config, name) for name in names]
    return sorted(
        (one for one in found if provider in ("", one.provider)), key=lambda one: (one.provider, one.kind, one.name)
    )


def _listed(config: AiConfig, name: str) -> Listed:
    full = config.resolve(name)
    per_token = [
        _dollars(config, full, usage) for usage in (Usage(input_tokens=_SOME_TOKENS), Usage(output_tokens=_SOME_TOKENS))
    ]
    per_million = [None if one is None else round(one * 1_000_000 / _SOME_TOKENS, 4) for one in per_token]
    kind = kind_of(full)
    return Listed(
        name=name,
        full=full,
        kind=kind,
        input_usd=per_million[0],
        output_usd=per_million[1],
        minute_usd=_dollars(config, full, Usage(audio_seconds=60.0)) if kind == "transcription" else None,
        context=context_window(full),
        most_output=most_output(full),
        end=config.end_of(full),
    )


def _dollars(config: AiConfig, full: str, usage: Usage) -> float | None:
    found = cost(config, full, usage)
    return None if found is None else float(found)
