"""What can never succeed, refused before it is accepted."""

from __future__ import annotations

from typing import Any

from fourlane.errors import InvalidArguments
from fourlane.providers.ai import Usage
from fourlane.tasks.ai.budgets import refuse_at_once
from fourlane.tasks.ai.config import configured, no_key
from fourlane.tasks.ai.prices import charge, context_window, count_tokens

__all__ = ["check", "check_text"]


def check(model: str, prompt: str, max_tokens: int, tenant: str | None, system: str | None = None) -> None:
    """Raises InvalidArguments, with what to do."""
    config = configured()
    if not isinstance(prompt, str) or not prompt.strip():
        raise InvalidArguments("the prompt is empty")
    if max_tokens < 1:
        raise InvalidArguments(f"max_tokens must be 1 or more, not {max_tokens}")
    full = config.resolve(model)
    window = context_window(full)
    tokens = count_tokens(prompt, system)
    if window is not None and tokens > window:
        raise InvalidArguments(f"{full} reads {window:,} tokens, the prompt has about {tokens:,}; shorten it")
    for name in (full, *(config.resolve(other) for other in config.fallbacks.get(model, ()))):
        provider = name.partition("/")[0]
        if not config.api_keys.get(provider):
            raise InvalidArguments(no_key(provider))
    some = Usage(input_tokens=tokens, output_tokens=max_tokens, characters=1, audio_seconds=1.0, images=1)
    refuse_at_once(config, full, tenant, None, priced=charge(config, full, [some]).priced)


def check_text(
    prompt: str,
    *,
    model: str = "gpt-4o",
    max_tokens: int = 1_024,
    system: str | None = None,
    tenant: str | None = None,
    **_: Any,
) -> None:
    """The arguments of a task that asks for text."""
    check(model, prompt, max_tokens, tenant, system)
