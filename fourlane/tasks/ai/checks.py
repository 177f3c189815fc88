"""What can never succeed, refused before it is accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fourlane.errors import InvalidArguments
from fourlane.providers.ai import Usage, family
from fourlane.providers.ai.batches import has_batches
from fourlane.providers.ai.catalogue import most_output
from fourlane.queues import carry
from fourlane.tasks.ai.batches.asking import account_of, refuse_hurried
from fourlane.tasks.ai.config import configured, no_key
from fourlane.tasks.ai.media.sources import check_sources
from fourlane.tasks.ai.models.kinds import refuse_wordless
from fourlane.tasks.ai.money.budgets import refuse_at_once
from fourlane.tasks.ai.money.prices import charge, context_window
from fourlane.tasks.ai.options import speaking_for
from fourlane.tasks.ai.text.asking import Asking, asking
from fourlane.tasks.ai.text.messages import sources_of

__all__ = [
    "check_asking",
    "check_batch",
    "check_model",
    "check_text",
    "check_window",
    "check_writer",
    "refuse_classes",
]

_SOME: Final = Usage(input_tokens=1_000, output_tokens=1_000, characters=1, audio_seconds=1.0, images=1)


def check_model(model: str, tenant: str | None) -> None:
    """The model is one, it and its fallbacks can be called, and there is a budget. Raises InvalidArguments."""
    config = configured()
    models = config.living(model)
    for full in models:
        provider = full.partition("/")[0]
        if not config.api_keys.get(provider):
            raise InvalidArguments(no_key(provider))
    refuse_at_once(config, models[0], tenant, None, priced=charge(config, models[0], [_SOME]).priced)


def check_writer(asked: Asking) -> None:
    """As ``check_model``, and all of them write text, the first one so much. Raises InvalidArguments."""
    check_model(asked.model, asked.tenant)
    models = configured().living(asked.model)
    for full in models:
        refuse_wordless(full)
    most = most_output(models[0])
    if most is not None and asked.max_tokens > most:
        raise InvalidArguments(f"max_tokens: {models[0]} says {most:,} at most, not {asked.max_tokens:,}")


def check_window(full: str, tokens: int) -> None:
    """Raises InvalidArguments: the model cannot read so much."""
    window = context_window(full)
    if window is not None and tokens > window:
        raise InvalidArguments(f"{full} reads {window:,} tokens, the prompt has about {tokens:,}; shorten it")


def check_asking(asked: Asking) -> None:
    """Raises InvalidArguments, with what to do."""
    check_writer(asked)
    check_batch(asked)
    deaf = [full for full in configured().living(asked.model) if not family(*full.split("/", 1)).hears]
    for source in sources_of(asked.turns):
        if source.kind == "audio" and deaf:
            raise InvalidArguments(
                f"{source.where}: {deaf[0]} takes no sound; transcribe it before, or name another model"
            )
        try:
            check_sources([source.source], tenant=asked.tenant)
        except InvalidArguments as error:
            raise InvalidArguments(f"{source.where}: {error}") from None
    check_window(configured().living(asked.model)[0], asked.tokens)


def check_batch(asked: Asking) -> None:
    """Raises InvalidArguments: it cannot be asked in a batch."""
    if not asked.batch:
        return
    full = configured().living(asked.model)[0]
    if not has_batches(account_of(configured(), full)):
        raise InvalidArguments(f"{full} has no batches; leave batch out, or name a model of OpenAI or Anthropic")
    if asked.run_tools and any(tool.function is not None for tool in asked.tools):
        raise InvalidArguments("batch: each round of tools might take a day; leave it out, or give run_tools=False")
    tier = carry.checked_tier.get()
    if tier is not None:
        refuse_hurried(tier)


@speaking_for("generate")
def check_text(prompt: str | None = None, **options: Any) -> None:
    """The arguments of a task that asks for text."""
    refuse_classes(options)
    check_asking(asking("generate", prompt, **options))


def refuse_classes(options: Mapping[str, Any]) -> None:
    """What goes to a job is JSON. Raises InvalidArguments, with what to give in its place."""
    if isinstance(options.get("schema"), type):
        raise InvalidArguments(f"schema: give a job {options['schema'].__name__}.model_json_schema(), which is JSON")
    tools = options.get("tools")
    for one in tools if isinstance(tools, Sequence) else ():
        if callable(one):
            raise InvalidArguments(
                f"tools: name the tool to a job: {getattr(one, 'name', None) or getattr(one, '__name__', one)!r}"
            )
