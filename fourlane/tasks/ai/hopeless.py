"""What all that is no conversation refuses before anybody is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from fourlane.errors import InvalidArguments, Reject
from fourlane.providers.ai.media import Ability, refuse_unable
from fourlane.tasks.ai.checks import check_model, check_window
from fourlane.tasks.ai.config import configured
from fourlane.tasks.ai.models.kinds import known_kind
from fourlane.tasks.ai.money.prices import count_tokens
from fourlane.tasks.ai.options import check_text, check_words, several, step_name

__all__ = ["as_rejects", "check_texts", "models_for"]


def models_for(
    ability: Ability, model: str, texts: Mapping[str, str], *, tenant: str | None, name: str | None
) -> tuple[str, ...]:
    """``provider/model`` of the model and its fallbacks, which all can do it. Raises InvalidArguments.

    Parameters:
      texts: what the call is about, by the names of its arguments; none may be empty.
      name: of its step.
    """
    for what, text in {**texts, "model": model}.items():
        check_text(what, text)
    check_words(tenant="" if tenant is None else tenant)
    step_name(name, ability)
    check_model(model, tenant)
    models = configured().living(model)
    check_window(models[0], count_tokens(*texts.values()))
    for full in models:
        refuse_unable(ability, full, known_kind(full))
    return models


def check_texts(texts: Sequence[str], most: int) -> list[str]:
    """A list of texts, none of them empty. Raises InvalidArguments."""
    if isinstance(texts, str):
        raise InvalidArguments("texts: are a list; give [text] for one")
    several("texts", texts)
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
