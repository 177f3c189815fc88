"""Moderation as a task: what is wrong with texts. It is free, and goes through health, limits and rows as all else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypedDict

from fourlane.providers.ai import Account, Answer
from fourlane.providers.ai.media import FREE
from fourlane.providers.ai.media import moderate as ask_for
from fourlane.tasks.ai.config import configured
from fourlane.tasks.ai.hopeless import as_rejects, check_texts, models_for
from fourlane.tasks.ai.models.names import MODERATION_MODEL
from fourlane.tasks.ai.options import speaking_for
from fourlane.tasks.ai.paid.paying import pay
from fourlane.tasks.ai.paid.work import Work
from fourlane.tasks.ai.whose import whose
from fourlane.tasks.task import task

__all__ = ["Moderated", "Verdict", "moderate"]

_MOST_TEXTS: Final = 1_000
_IN_ONE_REQUEST: Final = 32


class Verdict(TypedDict):
    """What is wrong with one text: categories, and how sure that is, from 0 to 1."""

    flagged: bool
    categories: dict[str, bool]
    scores: dict[str, float]


class Moderated(TypedDict):
    """The result of ``moderate``. flagged: whether any text is; results: one for each, in their order."""

    flagged: bool
    results: list[Verdict]
    model: str


@speaking_for("moderate")
def _check(
    texts: Sequence[str], *, model: str = MODERATION_MODEL, tenant: str | None = None, name: str | None = None
) -> None:
    """Raises InvalidArguments."""
    models_for("moderate", model, {"texts[0]": check_texts(texts, _MOST_TEXTS)[0]}, tenant=whose(tenant), name=name)


@task(name="fourlane.ai.moderate", check=_check, service="ai", result_ttl_ms=86_400_000, timeout_ms=600_000)
async def moderate(
    texts: Sequence[str], *, model: str = MODERATION_MODEL, tenant: str | None = None, name: str | None = None
) -> Moderated:
    """What is wrong with texts.

    Parameters:
      name: of the steps; give one where a job moderates several lists.
    """
    with as_rejects():
        tenant = whose(tenant)
        _check(texts, model=model, tenant=tenant, name=name)
    parts = [texts[first : first + _IN_ONE_REQUEST] for first in range(0, len(texts), _IN_ONE_REQUEST)]
    results: list[Verdict] = []
    for number, part in enumerate(parts, 1):
        step = name or "moderate" if len(parts) == 1 else f"{name or 'moderate'}-{number}"
        reply = await pay(configured(), _work(part, model), name=step, tenant=tenant)
        results += reply["data"]
    return {"flagged": any(one["flagged"] for one in results), "results": results, "model": reply["model"]}


def _work(texts: Sequence[str], model: str) -> Work:
    async def ask(account: Account, model: str, key: str, heard: Callable[[str], None]) -> Answer:
        return await ask_for(account, model, texts, key=key)

    return Work(operation="moderate", model=model, ask=ask, most=FREE)
