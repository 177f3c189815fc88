"""Embeddings: what texts mean, as vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from fourlane.providers.ai.accounts import Account, client
from fourlane.providers.ai.answer import Answer, CutStream
from fourlane.providers.ai.counts import Counts
from fourlane.providers.ai.media.faults import said_clearly
from fourlane.providers.ai.openai_chat import usage_of
from fourlane.providers.ai.question import header_of
from fourlane.providers.ai.usage import NOTHING, Usage

__all__ = ["batches", "embed", "tokens_of"]

_MOST_TEXTS: Final = {"google": 100}
_MOST_TEXTS_ELSEWHERE: Final = 2_048
_MOST_TOKENS: Final = 300_000
_BYTES_A_TOKEN: Final = 2  # at the very least; so no request is over the limit


def batches(provider: str, texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Texts as they go with one request each; the same in every run."""
    first, tokens = 0, 0
    most = _MOST_TEXTS.get(provider, _MOST_TEXTS_ELSEWHERE)
    for number, text in enumerate(texts):
        takes = len(text.encode("utf-8", "replace")) // _BYTES_A_TOKEN + 1
        if number > first and (number - first >= most or tokens + takes > _MOST_TOKENS):
            yield texts[first:number]
            first, tokens = number, 0
        tokens += takes
    yield texts[first:]


def tokens_of(texts: Sequence[str]) -> int:
    """About how many a model reads."""
    return sum(len(text.encode("utf-8", "replace")) // 4 + 1 for text in texts)


async def embed(account: Account, model: str, texts: Sequence[str], *, dimensions: int | None, key: str) -> Answer:
    """A vector for each text, in their order. Raises CutStream: the answer has not one for each."""
    with said_clearly(account):
        if account.provider == "google":
            vectors, usage = await _by_google(account, model, texts, dimensions)
        else:
            vectors, usage = await _by_openai(account, model, texts, dimensions, key)
    if len(vectors) != len(texts):
        raise CutStream(f"{len(vectors)} vectors came for {len(texts)} texts", Answer(finish="stop", usage=usage))
    return Answer(finish="stop", vectors=vectors, usage=usage)


async def _by_openai(
    account: Account, model: str, texts: Sequence[str], dimensions: int | None, key: str
) -> tuple[tuple[tuple[float, ...], ...], Usage]:
    given = {"dimensions": dimensions} if dimensions else {}
    # Without a format the SDK has them sent as bytes, a fourth of what numbers in JSON take.
    try:
        made = await client(account).embeddings.create(
            model=model, input=list(texts), extra_headers=header_of(key), **given
        )
    except ValueError as error:  # of the SDK: the answer holds none
        raise CutStream(f"{account.provider}/{model}: {error}", Answer()) from error
    in_order = sorted(made.data, key=lambda one: getattr(one, "index", None) or 0)
    told = getattr(made, "usage", None)
    usage = NOTHING if told is None else usage_of(told.model_dump())
    return tuple(tuple(getattr(one, "embedding", None) or ()) for one in in_order), usage


async def _by_google(
    account: Account, model: str, texts: Sequence[str], dimensions: int | None
) -> tuple[tuple[tuple[float, ...], ...], Usage]:
    config: dict[str, Any] = {"output_dimensionality": dimensions} if dimensions else {}
    # Each a content of its own: those that read pictures too take texts that stand together for one.
    made = await client(account).aio.models.embed_content(
        model=model, contents=[{"parts": [{"text": text}]} for text in texts], config=config
    )
    told = Counts(made.usage_metadata).of("prompt_token_count")
    usage = Usage(input_tokens=told) if told else NOTHING
    return tuple(tuple(one.values or ()) for one in made.embeddings or ()), usage
