"""What can never succeed, refused before it is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fourlane.errors import InvalidArguments
from fourlane.providers.ai import LIKE_OPENAI
from fourlane.providers.ai.batches import has_batches
from fourlane.queues import carry
from fourlane.tasks.ai.asking import Asking, asking, tenant_of
from fourlane.tasks.ai.batches.asking import account_of, refuse_hurried
from fourlane.tasks.ai.config import configured, no_key
from fourlane.tasks.ai.messages import sources_of
from fourlane.tasks.ai.prices import context_window, count_tokens
from fourlane.tasks.ai.sources import check_sources

__all__ = [
    "check",
    "check_asking",
    "check_audio",
    "check_batch",
    "check_image",
    "check_model",
    "check_text",
    "check_window",
    "refuse_classes",
]


def check(model: str, prompt: str, max_tokens: int, tenant: str | None, system: str | None = None) -> None:
    """Raises InvalidArguments, with what to do."""
    if not isinstance(prompt, str) or not prompt.strip():
        raise InvalidArguments("the prompt is empty")
    if max_tokens < 1:
        raise InvalidArguments(f"max_tokens must be 1 or more, not {max_tokens}")
    check_model(model, tenant)
    check_window(configured().resolve(model), count_tokens(prompt, system))


def check_model(model: str, tenant: str | None) -> None:
    """The model is one, it and its fallbacks can be called, and there is a budget. Raises InvalidArguments."""
    config = configured()
    for name in (model, *config.fallbacks.get(model, ())):
        provider = config.resolve(name).partition("/")[0]
        if not config.api_keys.get(provider):
            raise InvalidArguments(no_key(provider))
    if config.budget(tenant or "") == 0:
        raise InvalidArguments(f"the budget of {tenant or 'calls without a tenant'} is 0; raise it in FOURLANE_AI")


def check_window(full: str, tokens: int) -> None:
    """Raises InvalidArguments: the model cannot read so much."""
    window = context_window(full)
    if window is not None and tokens > window:
        raise InvalidArguments(f"{full} reads {window:,} tokens, the prompt has about {tokens:,}; shorten it")


def check_asking(asked: Asking) -> None:
    """Raises InvalidArguments, with what to do."""
    check_model(asked.model, asked.tenant)
    check_batch(asked)
    for source in sources_of(asked.turns):
        try:
            check_sources([source.source], tenant=tenant_of(asked.tenant))
        except InvalidArguments as error:
            raise InvalidArguments(f"{source.where}: {error}") from None
    check_window(configured().resolve(asked.model), asked.tokens)


def check_batch(asked: Asking) -> None:
    """Raises InvalidArguments: it cannot be asked in a batch."""
    if not asked.batch:
        return
    full = configured().resolve(asked.model)
    if not has_batches(account_of(configured(), full)):
        raise InvalidArguments(f"{full} has no batches; leave batch out, or name a model of OpenAI or Anthropic")
    if asked.run_tools and any(tool.function is not None for tool in asked.tools):
        raise InvalidArguments("batch: each round of tools might take a day; leave it out, or give run_tools=False")
    tier = carry.checked_tier.get()
    if tier is not None:
        refuse_hurried(tier)


def check_text(prompt: str | None = None, **options: Any) -> None:
    """The arguments of a task that asks for text."""
    refuse_classes(options)
    check_asking(asking("generate", prompt, **options))


def refuse_classes(options: Mapping[str, Any]) -> None:
    """What goes to a job is JSON. Raises InvalidArguments, with what to give in its place."""
    if isinstance(options.get("schema"), type):
        raise InvalidArguments(f"schema: give a job {options['schema'].__name__}.model_json_schema(), which is JSON")
    for one in options.get("tools") or ():
        if callable(one):
            raise InvalidArguments(f"tools: name the tool to a job: {getattr(one, 'name', one.__name__)!r}")


def check_image(prompt: str, *, model: str = "dall-e-3", tenant: str | None = None, **_: Any) -> None:
    """The arguments of the task that asks for an image."""
    _check_openai("images", model, prompt, tenant)


def check_audio(path: str, *, model: str = "whisper", tenant: str | None = None, **_: Any) -> None:
    """The arguments of the task that has a file transcribed."""
    _check_openai("transcription", model, path, tenant)


def _check_openai(kind: str, model: str, text: str, tenant: str | None) -> None:
    check(model, text, 1, tenant)
    full = configured().resolve(model)
    if full.partition("/")[0] not in LIKE_OPENAI:
        raise InvalidArguments(f"{full} cannot do {kind}; use a model of OpenAI")
