"""Tools: functions that models may call.

    @ai.tool
    async def weather(city: str, days: int = 1) -> dict[str, float]:
        "The weather of the next days."

    ai.generate.send("Do I need an umbrella in Paris?", tools=["weather"])

What a model must give is read from the signature, what the tool does from the docstring.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import json
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Generic, Literal, ParamSpec, TypeVar, overload

from fourlane.errors import InvalidArguments, RedisUnavailable, Reject, Steering, StepError
from fourlane.providers.ai import Tool
from fourlane.tasks.ai.figures import words_of
from fourlane.tasks.ai.text.schemas import check_schema
from fourlane.tasks.callables import is_async, name_of

__all__ = ["MOST_RESULT", "Offered", "ToolFunction", "offered", "tool", "tools_of"]

P = ParamSpec("P")
R = TypeVar("R")

MOST_RESULT: Final = 20_000
"""Characters of what a tool gives that a model is told; they are recorded, and paid for in each round that follows."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_ENGINES: Final = (Steering, StepError, RedisUnavailable)
"""What is said to the engine, and not to the model."""
_threads = ThreadPoolExecutor(32, thread_name_prefix="fourlane-tool")  # not the loop's own: calls are booked in those
_declared: dict[str, ToolFunction[Any, Any]] = {}


class ToolFunction(Generic[P, R]):
    """A function that models may call; made by ``tool``. It can be called as before."""

    def __init__(self, fn: Callable[P, R], name: str, description: str, on_error: Literal["tell", "raise"]) -> None:
        self.fn = fn
        self.name = name
        self.description = description
        self.on_error = on_error
        functools.update_wrapper(self, fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.fn(*args, **kwargs)

    @cached_property
    def described(self) -> Tool:
        """What a model is told of it. Raises InvalidArguments: of a type that JSON cannot carry."""
        from pydantic import PydanticUserError

        try:
            parameters = self._arguments.json_schema()
        except PydanticUserError as error:
            raise InvalidArguments(f"the tool {self.name}: {error}") from None
        return Tool(name=self.name, description=self.description, parameters=parameters)

    @cached_property
    def _arguments(self) -> Any:
        """Pydantic's reading of the signature; imported when a tool is first used, for few programs use one."""
        from pydantic import TypeAdapter

        def take(**given: Any) -> dict[str, Any]:
            return given

        hints = typing.get_type_hints(self.fn, include_extras=True)
        take.__signature__ = inspect.signature(self.fn)  # type: ignore[attr-defined]
        take.__annotations__ = {name: kind for name, kind in hints.items() if name != "return"}
        return TypeAdapter[Any](take)  # type: ignore[arg-type]

    async def run(self, arguments: str) -> str:
        """What the model is told. Raises what is the engine's, and with ``on_error="raise"`` what the tool raises."""
        try:
            given = self._read(arguments)
        except ValueError as error:
            return f"error: the arguments are not right: {error}"
        try:
            return _told(await self._call(given))
        except _ENGINES:
            raise
        except Exception as error:
            if self.on_error == "raise":
                raise
            return _bounded(f"error: {words_of(error)}")

    def _read(self, arguments: str) -> Any:
        from pydantic_core import ArgsKwargs, ValidationError

        given = json.loads(arguments or "{}")
        if not isinstance(given, dict):
            raise ValueError("a JSON object is wanted")
        try:
            return self._arguments.validate_python(ArgsKwargs((), given))
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            raise ValueError("; ".join(faults)) from None

    async def _call(self, given: Mapping[str, Any]) -> Any:
        fn: Callable[..., Any] = self.fn
        call = functools.partial(fn, **given)
        if is_async(fn):
            return await call()
        context = contextvars.copy_context()
        made = await asyncio.get_running_loop().run_in_executor(_threads, context.run, call)
        return await made if inspect.isawaitable(made) else made


@overload
def tool(fn: Callable[P, R], /) -> ToolFunction[P, R]: ...
@overload
def tool(
    *, name: str | None = None, description: str | None = None, on_error: Literal["tell", "raise"] = "tell"
) -> Callable[[Callable[P, R]], ToolFunction[P, R]]: ...
def tool(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    on_error: Literal["tell", "raise"] = "tell",
) -> Any:
    """Let models call a function, plain or async; a plain one runs in a thread.

    Parameters:
      name: by which calls name it; the function's own by default.
      description: what the model is told that it does; the docstring by default.
      on_error: ``tell`` the model that it failed, or ``raise``, so that the job fails. What steers the job (Snooze,
        RateLimited, Reject, Cancelled) is raised always.

    Raises:
      InvalidArguments: its name or signature will not do.
      ValueError: another tool has the name.
    """

    def declare(function: Callable[..., Any]) -> ToolFunction[Any, Any]:
        named = name or name_of(function)
        _check_declared(named, function, on_error)
        made = ToolFunction(function, named, inspect.cleandoc(description or function.__doc__ or ""), on_error)
        before = _declared.setdefault(named, made)
        if _home(before.fn) != _home(function):
            raise ValueError(f"a tool {named!r} is declared already, in {_home(before.fn)}")
        _declared[named] = made
        return made

    return declare if fn is None else declare(fn)


def _home(function: Any) -> str:
    """A module that is loaded anew declares its tools anew."""
    return f"{function.__module__}.{getattr(function, '__qualname__', '')}"


def _check_declared(name: str, function: Any, on_error: Any) -> None:
    _check_name(name, "the tool")
    if on_error not in ("tell", "raise"):
        raise InvalidArguments(f"the tool {name}: on_error is 'tell' or 'raise', not {on_error!r}")
    for one in inspect.signature(function).parameters.values():
        if one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
            raise InvalidArguments(f"the tool {name}: models name the arguments, which {one} does not allow")
        if one.annotation is one.empty:
            raise InvalidArguments(f"the tool {name}: {one.name} has no type that the model could be told")


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool of a call. ``tool`` None: a name that is not known here. ``function`` None: the caller runs it."""

    name: str
    tool: Tool | None
    function: ToolFunction[Any, Any] | None = None

    @property
    def described(self) -> str:
        """All of it that a model reads."""
        if self.tool is None:
            return ""
        return f"{self.tool.name} {self.tool.description} {json.dumps(self.tool.parameters)}"


def tools_of(given: Any) -> tuple[Offered, ...]:
    """The tools of a call, of what ``tools=`` says. Raises InvalidArguments."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise InvalidArguments(f"tools: a list, not {given!r:.40}")
    found = tuple(_offered(one, f"tools[{place}]") for place, one in enumerate(given))
    names = [one.name for one in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidArguments(f"tools: {min(twice)!r} is there twice")
    return found


def _offered(one: Any, where: str) -> Offered:
    if isinstance(one, str):
        known = _declared.get(one)
        return Offered(one, None if known is None else known.described, known)
    if isinstance(one, ToolFunction):
        return Offered(one.name, one.described, one)
    if not isinstance(one, Mapping):
        raise InvalidArguments(f"{where}: a tool's name, a function with @tool, or an object, not {one!r:.60}")
    if unknown := one.keys() - {"name", "description", "parameters"}:
        raise InvalidArguments(
            f"{where}: {min(map(str, unknown))!r} means nothing here; name, description, parameters do"
        )
    _check_name(one.get("name"), where)
    description = one.get("description", "")
    if not isinstance(description, str):
        raise InvalidArguments(f"{where}.description: text, not {type(description).__name__}")
    parameters = one.get("parameters", {"type": "object", "properties": {}})
    check_schema(parameters, f"{where}.parameters")
    return Offered(one["name"], Tool(name=one["name"], description=description, parameters=parameters))


def _check_name(name: Any, where: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidArguments(f"{where}: a name of up to 64 letters, digits, _ and -, not {name!r:.80}")


def offered(tools: Sequence[Offered]) -> tuple[Tool, ...]:
    """What a model is told of the tools. Raises Reject: one is not declared in this process."""
    for one in tools:
        if one.tool is None:
            raise Reject(f"no tool {one.name!r} is declared here; name the module of its @tool to the worker")
    return tuple(one.tool for one in tools if one.tool is not None)


def _told(value: Any) -> str:
    """What a tool gave, as text that a model reads."""
    if isinstance(value, str):
        return _bounded(value)
    from pydantic_core import to_json

    return _bounded(to_json(value).decode())


def _bounded(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()  # a lone surrogate could not be recorded
    if len(text) <= MOST_RESULT:
        return text
    return f"{text[:MOST_RESULT]}\n[cut here: {len(text) - MOST_RESULT:,} characters more]"
