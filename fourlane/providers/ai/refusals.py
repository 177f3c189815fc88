"""A provider that refuses a parameter is asked again without it: nothing was paid. What it refuses is remembered.

So a model of next month, of which ``families`` knows nothing, costs one refusal for each process, and no release. Only
how an answer is made may be left out; never what is asked: the messages, the tools, the schema.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeVar

from fourlane.providers.ai.accounts import Account
from fourlane.providers.ai.errors import status_of
from fourlane.providers.ai.families import EFFORTS, nearest
from fourlane.providers.ai.question import Effort, Question

__all__ = ["Change", "adapted", "change_of", "changed", "learn", "send"]

log = logging.getLogger("fourlane.ai")

_T = TypeVar("_T")
_MOST_TRIES: Final = 5


class Change(NamedTuple):
    """What to make of a parameter.

    Parameters:
      path: its place in the request.
      name: what to call it instead; its own name: it stays.
      value: what it shall say; among: the efforts of which it shall say the nearest. Without any: it is left out.
    """

    path: tuple[str, ...]
    name: str = ""
    value: Any = None
    among: tuple[Effort, ...] = ()


# What may be left out, by the words with which a refusal may name it.
_PLACES: Final[tuple[tuple[tuple[str, ...], str], ...]] = (
    (("max_tokens",), r"max_tokens"),
    (("max_completion_tokens",), r"max_completion_tokens"),
    (("temperature",), r"temperature"),
    (("seed",), r"seed"),
    (("stop",), r"stop"),
    (("stop_sequences",), r"stop_sequences"),
    (("reasoning_effort",), r"reasoning_effort|reasoning effort"),
    (("reasoning", "effort"), r"reasoning\.effort|reasoning effort"),
    (("reasoning",), r"reasoning"),
    (("include",), r"include|encrypted content"),
    (("prompt_cache_key",), r"prompt_cache_key"),
    (("stream_options",), r"stream_options"),
    (("usage",), r"usage"),
    (("store",), r"store"),
    (("output_config", "effort"), r"output_config\.effort|effort"),
    (("thinking",), r"thinking"),
    (("tool_choice",), r"tool_choice|forced tool use"),
    (("cache_control",), r"cache_control"),
    (("generationConfig", "temperature"), r"temperature"),
    (("generationConfig", "seed"), r"seed"),
    (("generationConfig", "stopSequences"), r"stop[ _]?sequences"),
    (("generationConfig", "thinkingConfig"), r"thinking[ _]?(?:config|level|budget|mode)?"),
)
_REFUSES: Final = re.compile(
    r"unsupported|not support|unknown (?:parameter|name)|unrecognized|extra (?:inputs|fields)|not permitted"
    r"|not allowed|deprecated|does not accept|only the default|only works in|may not be|cannot be (?:used|disabled)",
    re.IGNORECASE,
)
_INSTEAD: Final = re.compile(r"use '(\w+)' instead", re.IGNORECASE)
_EFFORTS: Final = re.compile(r"(?:supported values are|must be one of|one of):?(.*)", re.IGNORECASE | re.DOTALL)
_ADAPTIVE: Final = re.compile(r"use \"?thinking\.type\.adaptive", re.IGNORECASE)


def change_of(body: dict[str, Any], words: str, param: str | None = None) -> Change | None:
    """What to change of a request that was refused with these words; None: it is not for a parameter that may go.

    Parameters:
      param: the parameter that the provider names, where it names one apart.
    """
    if not _REFUSES.search(words):
        return None
    for path, names in _PLACES:
        present = _at(body, path)
        named = re.fullmatch(names, param, re.IGNORECASE) if param else _named(names, words)
        if present is None or not named:
            continue
        if found := _INSTEAD.search(words):
            return Change(path, name=found[1])
        if _ADAPTIVE.search(words) and path == ("thinking",):
            return Change(path, value={"type": "adaptive"})
        if path == ("tool_choice",):
            return Change(path, value={"type": "auto"} if isinstance(present, dict) else "auto")
        told = _EFFORTS.search(words) if path[-1].endswith("effort") else None
        return Change(path, among=tuple(word for word in EFFORTS if told and re.search(rf"\b{word}\b", told[1])))
    return None


def changed(body: dict[str, Any], change: Change) -> dict[str, Any]:
    """The request with a change; itself where it has no such parameter."""
    if _at(body, change.path) is None:
        return body
    made = copy.copy(body)
    inner = made
    for name in change.path[:-1]:
        inner[name] = inner = dict(inner[name])
    value = inner.pop(change.path[-1])
    if change.name:
        inner[change.name] = value
    elif change.among and value not in change.among:
        inner[change.path[-1]] = nearest(value, change.among)
    elif change.value is not None or change.among:
        inner[change.path[-1]] = change.value or value
    elif not inner and len(change.path) > 1:
        made.pop(change.path[0])
    return made


_known: dict[tuple[str, str | None, str], list[Change]] = {}


async def send(
    account: Account, question: Question, body: dict[str, Any], call: Callable[[dict[str, Any], str], Awaitable[_T]]
) -> _T:
    """Make a call; again where the provider refuses a parameter that can be left out. Raises what the call raises.

    Parameters:
      call: of a request and its idempotency key: another request has another one, as those who honour keys want it.
    """
    model, asked = question.model, body
    body = adapted(account, model, asked)
    for _ in range(_MOST_TRIES):
        try:
            return await call(body, _key_of(question, account, asked, body))
        except Exception as error:
            refused = status_of(error) in (400, 422)
            if not refused or not learn(account, model, body, str(error), _param_of(error)):
                raise
            body = adapted(account, model, body)
    return await call(body, _key_of(question, account, asked, body))


def _key_of(question: Question, account: Account, asked: dict[str, Any], body: dict[str, Any]) -> str:
    if body == asked:
        return question.idempotency_key
    left_out = repr(_learned(account, question.model)).encode()
    return f"{question.idempotency_key}~{hashlib.sha256(left_out).hexdigest()[:8]}"


def adapted(account: Account, model: str, body: dict[str, Any]) -> dict[str, Any]:
    """A request without what the model is known to refuse."""
    for change in _learned(account, model):
        body = changed(body, change)
    return body


def learn(account: Account, model: str, body: dict[str, Any], words: str, param: str | None = None) -> bool:
    """Remember what a request was refused for; False: it is not for a parameter that may go."""
    change = change_of(body, words, param)
    if change is None:
        return False
    log.info("%s/%s refuses %s; it is asked again", account.provider, model, ".".join(change.path))
    _learned(account, model).append(change)
    return True


def _learned(account: Account, model: str) -> list[Change]:
    return _known.setdefault((account.provider, account.base_url, model), [])


def _param_of(error: BaseException) -> str | None:
    param = getattr(error, "param", None)
    return param if isinstance(param, str) and param else None


def _named(names: str, words: str) -> bool:
    return re.search(rf"(?<![a-z_]){'(?:' + names + ')'}(?![a-z_])", words, re.IGNORECASE) is not None


def _at(body: dict[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = body
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found
