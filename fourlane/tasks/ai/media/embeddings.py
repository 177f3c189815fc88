"""Embeddings as a task: each request is a step, so a crash after three of ten pays for the rest only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypedDict

from fourlane.errors import InvalidArguments
from fourlane.providers.ai import Account, Answer, Media, Usage
from fourlane.providers.ai.media import batches, tokens_of
from fourlane.providers.ai.media import embed as ask_for
from fourlane.tasks.ai.config import configured
from fourlane.tasks.ai.hopeless import as_rejects, check_texts, models_for
from fourlane.tasks.ai.media.npy import read_npy, write_npy
from fourlane.tasks.ai.media.sources import read_file
from fourlane.tasks.ai.models.names import EMBEDDING_MODEL
from fourlane.tasks.ai.money.prices import context_window
from fourlane.tasks.ai.options import speaking_for
from fourlane.tasks.ai.paid.paying import pay
from fourlane.tasks.ai.paid.reply import Reply
from fourlane.tasks.ai.paid.work import Work
from fourlane.tasks.ai.whose import whose
from fourlane.tasks.task import task

__all__ = ["MOST_IN_RESULT", "Embedded", "embed", "vectors"]

MOST_IN_RESULT: Final = 16
"""Of so many texts the vectors stand in the result; of more they are files."""
_MOST_TEXTS: Final = 100_000
_MOST_DIMENSIONS: Final = 8_192
_SECONDS: Final = 60.0


class Embedded(TypedDict):
    """The result of ``embed``.

    vectors: one for each text, in their order; empty where they are in files.
    files: references to files of float32, rows of ``dimensions``, as numpy writes them (.npy), in the texts' order.
    """

    vectors: list[list[float]]
    files: list[str]
    count: int
    dimensions: int
    model: str
    input_tokens: int
    cost_usd: float
    cost_known: bool
    cost_estimated: bool


@speaking_for("embed")
def _check(
    texts: Sequence[str],
    *,
    model: str = EMBEDDING_MODEL,
    dimensions: int | None = None,
    tenant: str | None = None,
    name: str | None = None,
) -> None:
    """Raises InvalidArguments."""
    given = check_texts(texts, _MOST_TEXTS)
    models = models_for("embed", model, {}, tenant=whose(tenant), name=name)
    for other in models[1:]:
        if other.rpartition("/")[2] != models[0].rpartition("/")[2]:
            raise InvalidArguments(f"{other} is a fallback of {models[0]}: vectors of two models cannot be compared")
    if dimensions is not None and (type(dimensions) is not int or not 1 <= dimensions <= _MOST_DIMENSIONS):
        raise InvalidArguments(f"dimensions: 1 to {_MOST_DIMENSIONS:,}, not {dimensions!r}")
    if dimensions is not None and "ada-002" in models[0]:
        raise InvalidArguments(f"{models[0]} has 1,536 dimensions; leave dimensions out")
    window = context_window(models[0])
    for number, text in enumerate(given):
        if window is not None and tokens_of([text]) > window:
            raise InvalidArguments(
                f"texts[{number}] has about {tokens_of([text]):,} tokens; {models[0]} reads {window:,}"
            )


@task(name="fourlane.ai.embed", check=_check, service="ai", result_ttl_ms=86_400_000, timeout_ms=1_800_000)
async def embed(
    texts: Sequence[str],
    *,
    model: str = EMBEDDING_MODEL,
    dimensions: int | None = None,
    tenant: str | None = None,
    name: str | None = None,
) -> Embedded:
    """Vectors of texts. ``vectors(embedded)`` gives them, wherever they are.

    Parameters:
      dimensions: of each vector, where the model can have fewer than its own.
      name: of the steps; give one where a job embeds several lists.
    """
    with as_rejects():
        tenant = whose(tenant)
        _check(texts, model=model, dimensions=dimensions, tenant=tenant, name=name)
        parts = list(batches(configured().resolve(model).partition("/")[0], texts))
    in_files = len(texts) > MOST_IN_RESULT
    replies = []
    for number, part in enumerate(parts, 1):
        work = _work(part, model, dimensions, in_files=in_files)
        step = name or "embed" if len(parts) == 1 else f"{name or 'embed'}-{number}"
        replies.append(await pay(configured(), work, name=step, tenant=tenant))
    return _embedded(replies, len(texts))


def _work(texts: Sequence[str], model: str, dimensions: int | None, *, in_files: bool) -> Work:
    async def ask(account: Account, model: str, key: str, heard: Callable[[str], None]) -> Answer:
        answer = await ask_for(account, model, texts, dimensions=dimensions, key=key)
        size = str(len(answer.vectors[0]))  # known from now on by the reply's text
        if not in_files:
            return replace(answer, text=size)
        file = Media(media_type="application/x-npy", data=write_npy(answer.vectors), name="vectors.npy")
        return replace(answer, text=size, vectors=(), media=(file,))

    most = Usage(input_tokens=tokens_of(texts))
    return Work(operation="embed", model=model, ask=ask, most=most, makes_files=in_files, seconds=_SECONDS)


def _embedded(replies: Sequence[Reply], count: int) -> Embedded:
    return {
        "vectors": [vector for reply in replies for vector in reply["data"] or ()],
        "files": [file for reply in replies for file in reply["files"]],
        "count": count,
        "dimensions": int(replies[0]["text"]),
        "model": replies[0]["model"],
        "input_tokens": sum(reply["input_tokens"] for reply in replies),
        "cost_usd": sum(reply["cost_usd"] for reply in replies),
        "cost_known": all(reply["cost_known"] for reply in replies),
        "cost_estimated": any(reply["cost_estimated"] for reply in replies),
    }


async def vectors(embedded: Embedded) -> list[list[float]]:
    """One for each text, in their order, wherever they are. Raises NotStored, StorageUnavailable."""
    if not embedded["files"]:
        return embedded["vectors"]
    return [row for file in embedded["files"] for row in read_npy((await read_file(file)).data)]
