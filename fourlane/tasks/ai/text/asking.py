"""What a call asks of a text model: its options, checked, in one record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict, get_args

from fourlane.errors import InvalidArguments
from fourlane.providers.ai import ChatMessage, Effort, Outcome, Question
from fourlane.tasks.ai.models.names import TEXT_MODEL
from fourlane.tasks.ai.money.prices import count_tokens
from fourlane.tasks.ai.options import (
    check_flag,
    check_text,
    check_whole,
    check_words,
    refuse_unknown,
    step_name,
)
from fourlane.tasks.ai.paid.work import ACCEPTED
from fourlane.tasks.ai.text.messages import Turn, turns_of
from fourlane.tasks.ai.text.structured import Wanted, wanted
from fourlane.tasks.ai.text.tools import Offered, offered, tools_of
from fourlane.tasks.ai.whose import whose

__all__ = ["Asking", "TextOptions", "asking"]

_TOKENS: Final = {"image": 1_500, "file": 3_000, "audio": 2_000}
"""About what a source takes whose size is not known yet."""
_MOST_STOPS: Final = 4
_MOST_TOKENS: Final = 10_000_000
"""More than any model says; a figure beside it is a slip."""
_WHOLE: Final[tuple[Outcome, ...]] = ("ok", "tool_calls")
_MADE_WHOLE: Final = frozenset({"analyze", "translate", "summarize"})
"""The operations of which a part is of no use."""


class TextOptions(TypedDict, total=False):
    """What all calls of text models take.

    Parameters:
      model: a short name of ``MODELS``, or ``provider/model``.
      system: instructions that come before the conversation.
      messages: a conversation in place of the prompt: ``[{"role": "user" | "assistant", "content": TEXT or PARTS}]``,
        a part being ``{"type": "text", "text"}`` or ``{"type": "image" | "file" | "audio", "source"}``.
      files: sources that go with the prompt: https and data URLs, storage references, paths in the allowed folder.
      max_tokens: of the answer, thoughts included.
      temperature, seed, effort, stop: None: as the model does by itself.
      schema: a JSON Schema, or in a call of your own a pydantic model: the answer keeps it, and is ``Reply.data``.
      tools: names of functions that ``@tool`` declared, or in a call of your own these functions; or
        ``{"name", "description", "parameters"}`` of tools that the caller runs: see ``Reply.tool_calls``.
      run_tools: False: no tool is run here.
      max_rounds: of calls of the model, while it wants tools called.
      accept: the outcomes that are replies; with any other a fallback is asked, then the job is dead (NotAccepted).
      cache: have the provider keep what the conversation begins with, for the next call that begins so.
      batch: have it asked in a batch, at half the price: for jobs of P2 and P3, which wait for it, a day at most. No
        tools are run, and the output does not come piece by piece.
      tenant: whose budget and rows; that of the job by default.
      name: of the step, where a job makes several calls of an operation.
    """

    model: str
    system: str | None
    messages: Sequence[Any] | None
    files: Sequence[str]
    max_tokens: int
    temperature: float | None
    seed: int | None
    effort: Effort | None
    stop: str | Sequence[str]
    schema: Any
    tools: Sequence[Any]
    run_tools: bool
    max_rounds: int
    accept: Sequence[Outcome] | None
    cache: bool
    batch: bool
    tenant: str | None
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """As ``TextOptions``, checked; made by ``asking``.

    Parameters:
      silent, inline_bytes: as of ``Work``.
    """

    operation: str
    turns: tuple[Turn, ...]
    model: str
    system: str | None
    max_tokens: int
    temperature: float | None
    seed: int | None
    effort: Effort | None
    stop: tuple[str, ...]
    wanted: Wanted | None
    tools: tuple[Offered, ...]
    run_tools: bool
    max_rounds: int
    accept: tuple[Outcome, ...]
    cache: bool
    batch: bool
    tenant: str | None
    name: str
    silent: bool = False
    inline_bytes: int | None = None

    @property
    def tokens(self) -> int:
        """About how many tokens are read: all turns, their sources, and what goes along."""
        sources = sum(_TOKENS[source.kind] for turn in self.turns for source in turn.sources)
        calls = (call.arguments for turn in self.turns for call in turn.calls)
        return sources + self.tokens_along + count_tokens(*(turn.text for turn in self.turns), *calls)

    @property
    def tokens_along(self) -> int:
        """Of the system prompt, tools and schema, which go along with each question."""
        schema = "" if self.wanted is None else json.dumps(self.wanted.schema)
        return count_tokens(self.system, schema, *(tool.described for tool in self.tools))

    def question(self, messages: tuple[ChatMessage, ...], model: str, key: str) -> Question:
        """What a model is asked. Raises Reject: a tool is not known here."""
        return Question(
            model=model,
            messages=messages,
            system=self.system,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            seed=self.seed,
            stop=self.stop,
            effort=self.effort,
            tools=offered(self.tools),
            schema=None if self.wanted is None else self.wanted.schema,
            cache=self.cache,
            idempotency_key=key,
        )


def asking(
    operation: str,
    prompt: str | None = None,
    *,
    model: str = TEXT_MODEL,
    system: str | None = None,
    messages: Any = None,
    files: Any = (),
    max_tokens: int = 1_024,
    temperature: float | None = None,
    seed: int | None = None,
    effort: Any = None,
    stop: Any = (),
    schema: Any = None,
    tools: Any = (),
    run_tools: bool = True,
    max_rounds: int = 10,
    accept: Any = None,
    cache: bool = False,
    batch: bool = False,
    tenant: str | None = None,
    name: str | None = None,
    **unknown: Any,
) -> Asking:
    """Check the options of a call. Raises InvalidArguments; TypeError of one that there is not."""
    refuse_unknown(operation, unknown)
    check_text("model", model)
    check_words(system="" if system is None else system, tenant="" if tenant is None else tenant)
    check_whole("max_tokens", max_tokens, 1, _MOST_TOKENS)
    check_whole("max_rounds", max_rounds, 1, 100)
    if seed is not None:
        check_whole("seed", seed, 0, 2**31 - 1)
    if temperature is not None:
        _check_temperature(temperature)
    if effort is not None and effort not in get_args(Effort):
        raise InvalidArguments(f"effort: one of {', '.join(get_args(Effort))}, not {effort!r}")
    for what, flag in (("run_tools", run_tools), ("cache", cache), ("batch", batch)):
        check_flag(what, flag)
    want = wanted(schema)
    return Asking(
        operation=operation,
        turns=turns_of(prompt, messages, files),
        model=model,
        system=system,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        effort=effort,
        stop=_stops(stop),
        wanted=want,
        tools=tools_of(tools),
        run_tools=run_tools,
        max_rounds=max_rounds,
        accept=_accepted(accept, _WHOLE if operation in _MADE_WHOLE or want is not None else ACCEPTED),
        cache=cache,
        batch=batch,
        tenant=whose(tenant),
        name=step_name(name, operation),
    )


def _check_temperature(value: Any) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise InvalidArguments(f"temperature: a number, not {value!r:.40}")
    if not 0 <= value <= 2:
        raise InvalidArguments(f"temperature must be 0 to 2, not {value}")


def _texts(what: str, value: Any) -> tuple[Any, ...]:
    """One text or several."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence):
        raise InvalidArguments(f"{what}: a text or a list of them, not {value!r:.40}")
    return tuple(value)


def _stops(stop: Any) -> tuple[str, ...]:
    stops = _texts("stop", stop)
    for one in stops:
        check_text("stop", one)
    if len(stops) > _MOST_STOPS:
        raise InvalidArguments(f"stop: {_MOST_STOPS} texts at most, not {len(stops)}")
    return stops


def _accepted(accept: Any, otherwise: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    if accept is None:
        return otherwise
    words: tuple[Any, ...] = _texts("accept", accept)
    if not words:
        raise InvalidArguments("accept: is empty, so that no answer would do")
    for word in words:
        if word not in get_args(Outcome):
            raise InvalidArguments(f"accept: of {', '.join(get_args(Outcome))}, not {word!r}")
    return words
