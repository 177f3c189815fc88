"""Moderation: what is wrong with texts. Nothing is billed for it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from fourlane.providers.ai.accounts import Account, client
from fourlane.providers.ai.answer import Answer, CutStream
from fourlane.providers.ai.media.faults import said_clearly
from fourlane.providers.ai.question import header_of
from fourlane.providers.ai.usage import Usage

__all__ = ["FREE", "moderate"]

FREE = Usage(billed_usd=Decimal(0))


async def moderate(account: Account, model: str, texts: Sequence[str], *, key: str) -> Answer:
    """A verdict for each text: whether it is flagged, and the categories with their scores."""
    with said_clearly(account):
        made = await client(account).moderations.create(model=model, input=list(texts), extra_headers=header_of(key))
    results = made.results or []
    if len(results) != len(texts):
        raise CutStream(f"{len(results)} verdicts came for {len(texts)} texts", Answer(usage=FREE))
    verdicts = tuple(
        {
            "flagged": bool(one.flagged),
            "categories": _told(one.categories),
            "scores": _told(one.category_scores),
        }
        for one in results
    )
    return Answer(finish="stop", verdicts=verdicts, usage=FREE)


def _told(values: Any) -> dict[str, Any]:
    return {} if values is None else dict(values.model_dump(by_alias=True, exclude_none=True))
