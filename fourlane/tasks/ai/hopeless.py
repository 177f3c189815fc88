"""What all that is no conversation refuses before anybody is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fourlane.errors import InvalidArguments, Reject
from fourlane.providers.ai.media import Ability, refuse_unable
from fourlane.tasks.ai.checks import check
from fourlane.tasks.ai.config import configured

__all__ = ["as_rejects", "check_texts", "models_for"]


def models_for(ability: Ability, model: str, text: str, tenant: str | None) -> list[str]:
    """``provider/model`` of the model and its fallbacks, which all can do it. Raises InvalidArguments."""
    check(model, text, 1, tenant)
    config = configured()
    models = [config.resolve(one) for one in (model, *config.fallbacks.get(model, ()))]
    for full in models:
        refuse_unable(ability, full)
    return models


def check_texts(texts: Sequence[str], most: int) -> list[str]:
    """A list of texts, none of them empty. Raises InvalidArguments."""
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise InvalidArguments(f"texts are a list, not {type(texts).__name__}; give [text] for one")
    if not texts:
        raise InvalidArguments("there are no texts")
    if len(texts) > most:
        raise InvalidArguments(f"{len(texts):,} texts are too many for one job; at most {most:,}")
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InvalidArguments(f"texts[{number}] is {'empty' if isinstance(text, str) else 'no text'}")
    return list(texts)


@contextmanager
def as_rejects() -> Iterator[None]:
    """What is wrong with arguments, in a job: trying again does not mend it."""
    try:
        yield
    except InvalidArguments as error:
        raise Reject(str(error)) from None
