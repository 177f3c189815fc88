"""What can never succeed, refused before it is accepted."""

from __future__ import annotations

from typing import Any

from fourlane.errors import InvalidArguments
from fourlane.providers.ai import LIKE_OPENAI
from fourlane.tasks.ai.config import configured, no_key
from fourlane.tasks.ai.prices import context_window, count_tokens

__all__ = ["check", "check_audio", "check_image", "check_text"]


def check(model: str, prompt: str, max_tokens: int, tenant: str | None, system: str | None = None) -> None:
    """Raises InvalidArguments, with what to do."""
    config = configured()
    if not isinstance(prompt, str) or not prompt.strip():
        raise InvalidArguments("the prompt is empty")
    if max_tokens < 1:
        raise InvalidArguments(f"max_tokens must be 1 or more, not {max_tokens}")
    living = config.living(model)
    window = context_window(living[0])
    tokens = count_tokens(prompt, system)
    if window is not None and tokens > window:
        raise InvalidArguments(f"{living[0]} reads {window:,} tokens, the prompt has about {tokens:,}; shorten it")
    for name in living:
        provider = name.partition("/")[0]
        if not config.api_keys.get(provider):
            raise InvalidArguments(no_key(provider))
    if config.budget(tenant or "") == 0:
        raise InvalidArguments(f"the budget of {tenant or 'calls without a tenant'} is 0; raise it in FOURLANE_AI")


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


def check_image(prompt: str, *, model: str = "dall-e-3", tenant: str | None = None, **_: Any) -> None:
    """The arguments of the task that asks for an image."""
    _check_openai("images", model, prompt, tenant)


def check_audio(path: str, *, model: str = "whisper", tenant: str | None = None, **_: Any) -> None:
    """The arguments of the task that has a file transcribed."""
    _check_openai("transcription", model, path, tenant)


def _check_openai(kind: str, model: str, text: str, tenant: str | None) -> None:
    check(model, text, 1, tenant)
    full = configured().living(model)[0]
    if full.partition("/")[0] not in LIKE_OPENAI:
        raise InvalidArguments(f"{full} cannot do {kind}; use a model of OpenAI")
