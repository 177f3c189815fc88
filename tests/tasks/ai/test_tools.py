"""Functions that models may call: what is read from them, and what a model is told."""

from __future__ import annotations

import asyncio
import threading
from datetime import date
from typing import Annotated, Any

import pytest
from pydantic import Field

from fourlane.errors import InvalidArguments, Reject, Snooze
from fourlane.tasks import ai
from fourlane.tasks.ai.text.tools import MOST_RESULT, offered, tools_of


@ai.tool
async def forecast(city: Annotated[str, Field(description="Its name")], *, day: date, days: int = 1) -> dict[str, Any]:
    """The weather.

    Of the next days.
    """
    return {"city": city, "day": day, "days": days}


@ai.tool(name="thread", description="Where it runs")
def where() -> str:
    return threading.current_thread().name


@ai.tool
async def fails(how: str) -> str:
    raise {"steers": Snooze(1), "rejects": Reject("no")}.get(how, ValueError(f"no {how}"))


@ai.tool(on_error="raise")
async def raises() -> str:
    raise ValueError("down")


@ai.tool
async def large() -> str:
    return "x" * (MOST_RESULT + 5) + "\ud800"


def test_what_a_model_is_told() -> None:
    [told] = offered(tools_of(["forecast"]))
    assert (told.name, told.description) == ("forecast", "The weather.\n\nOf the next days.")
    assert told.parameters["required"] == ["city", "day"]
    assert told.parameters["properties"]["city"]["description"] == "Its name"
    assert told.parameters["properties"]["day"]["format"] == "date"
    assert told.parameters["properties"]["days"]["default"] == 1


RUNS = [
    (forecast, '{"city": "Rome", "day": "2026-11-28"}', '{"city":"Rome","day":"2026-11-28","days":1}'),
    (forecast, '{"city": "Rome"}', "error: the arguments are not right: day: Missing"),
    (forecast, '{"city": "Rome", "day": "2026-11-28", "x": 1}', "x: Unexpected"),
    (forecast, '{"city": ', "error: the arguments are not right"),
    (forecast, "[]", "a JSON object is wanted"),
    (where, "", "fourlane-tool"),
    (fails, '{"how": "luck"}', "error: ValueError: no luck"),
    (large, "{}", "[cut here: 6 characters more]"),
]


@pytest.mark.parametrize(("tool", "arguments", "words"), RUNS)
def test_what_comes_of_a_call(tool: Any, arguments: str, words: str) -> None:
    assert words in asyncio.run(tool.run(arguments))


@pytest.mark.parametrize(
    ("tool", "arguments", "error"),
    [(fails, '{"how": "steers"}', Snooze), (fails, '{"how": "rejects"}', Reject), (raises, "{}", ValueError)],
)
def test_what_is_raised(tool: Any, arguments: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        asyncio.run(tool.run(arguments))


def test_a_tool_can_be_called_as_before() -> None:
    assert asyncio.run(forecast("Rome", day=date(2026, 11, 28)))["days"] == 1


def untyped(city):  # type: ignore[no-untyped-def]
    """No type."""


@pytest.mark.parametrize(
    ("function", "words"),
    [(untyped, "city has no type"), (lambda *cities: None, r"name of up to 64"), (print, "models name the arguments")],
)
def test_what_is_no_tool(function: Any, words: str) -> None:
    with pytest.raises(InvalidArguments, match=words):
        ai.tool(function)


def test_a_name_is_taken_once() -> None:
    def other() -> None: ...

    with pytest.raises(ValueError, match="'forecast' is declared already"):
        ai.tool(name="forecast")(other)


BAD = [
    ("forecast", "tools: a list"),
    ([7], r"tools\[0\]: a tool's name"),
    (["forecast", "forecast"], "is there twice"),
    ([{"name": "a b"}], r"tools\[0\]: a name of up to 64"),
    ([{"name": "a", "parameters": {"type": "string"}}], r"tools\[0\].parameters: its root is an object"),
    ([{"name": "a", "run": True}], r"tools\[0\]: 'run' means nothing"),
]


@pytest.mark.parametrize(("tools", "words"), BAD)
def test_what_is_refused(tools: Any, words: str) -> None:
    with pytest.raises(InvalidArguments, match=words):
        tools_of(tools)


def test_a_name_that_is_not_known_may_be_known_to_the_worker() -> None:
    with pytest.raises(Reject, match="no tool 'elsewhere' is declared here"):
        offered(tools_of(["elsewhere"]))
