"""The models that FOURLANE_AI names, as those that are meant. A name of nothing is a fault, for it would do nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from fourlane.errors import InvalidArguments, SettingsError
from fourlane.providers.ai import BASE_URLS
from fourlane.tasks.ai.models.names import MODELS, is_model, no_model

if TYPE_CHECKING:
    from fourlane.config.groups.ai import AiOptions

__all__ = ["followed", "meant"]

V = TypeVar("V")


def meant(options: AiOptions, resolve: Callable[[str], str]) -> dict[str, Any]:
    """The fields that name models or providers, whichever names they use, by ``provider/model`` and provider.

    Parameters:
      resolve: ``provider/model`` of a name. Raises InvalidArguments.

    Raises SettingsError with the place.
    """

    def full(place: str, name: str) -> str:
        if name.endswith("/*"):
            raise _fault(place, f"{name!r} is no model; name one")
        try:
            return resolve(name)
        except InvalidArguments as error:
            raise _fault(place, str(error)) from None

    def limited(place: str, name: str) -> str:
        provider = name.removesuffix("/*")
        return provider if provider in BASE_URLS else full(place, name)

    def priced(place: str, name: str) -> str:
        found = limited(place, name)
        return f"{found}/*" if found in BASE_URLS else found

    def ending(place: str, name: str) -> str:
        return MODELS.get(options.models.get(name, name)) or full(place, name)

    for name, others in options.fallbacks.items():
        for one in (name, *others):
            full(f"fallbacks.{name}", one)
    for place, budget in enumerate(options.budgets):
        if budget.model not in (None, "*"):
            full(f"budgets.{place}.model", str(budget.model))
    return {
        "limits": _by(options.limits, "limits", limited),
        "prices": _by(options.prices, "prices", priced),
        "end_of_life": _by(options.end_of_life, "end_of_life", ending),
    }


def followed(models: Mapping[str, str]) -> dict[str, str]:
    """Short names of the settings, each by what it leads to over others of them. Raises SettingsError."""
    return {name: _followed(models, name) for name in models}


def _by(given: Mapping[str, V], field: str, key: Callable[[str, str], str]) -> dict[str, V]:
    found: dict[str, V] = {}
    names: dict[str, str] = {}
    for name, value in given.items():
        place = f"{field}.{name}"
        full = key(place, name)
        if full in found:
            raise _fault(place, f"means {full}, as {names[full]} does; write one")
        found[full], names[full] = value, name
    return found


def _followed(models: Mapping[str, str], name: str) -> str:
    seen = [name]
    while models[seen[-1]] in models:
        if models[seen[-1]] in seen:
            raise _fault(f"models.{name}", f"leads to itself ({' to '.join(seen)}); name PROVIDER/MODEL")
        seen.append(models[seen[-1]])
    last = models[seen[-1]]
    if last not in MODELS and not is_model(last):
        raise _fault(f"models.{name}", no_model(last, {*MODELS, *models}))
    return last


def _fault(place: str, said: str) -> SettingsError:
    return SettingsError(f"FOURLANE_AI: {place}: {said}")
