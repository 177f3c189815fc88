"""What all commands share: JSON or words, errors in a line, the types of options."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from fourlane.jsontext import read_json

if TYPE_CHECKING:
    from fourlane.app import App
    from fourlane.config import Settings
    from fourlane.queues.store import Store

__all__ = [
    "Duration",
    "Group",
    "Json",
    "Number",
    "confirm",
    "fail",
    "import_here",
    "job_argument",
    "json_option",
    "open_app",
    "open_store",
    "present_folder",
    "print_json",
    "say",
    "settings_of_program",
    "wants_json",
    "yes_option",
]

_RUNS_ON: Final = "runs on"

C = TypeVar("C", bound=Callable[..., Any])

_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_LONGEST_MS: Final = 36_525 * 86_400_000
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


class Group(click.Group):
    """A group whose commands, groups among them, all take ``--json`` and tell our errors in a line."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        if not any("--json" in parameter.opts for parameter in cmd.params):
            cmd.params.append(json_option())
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:
        from fourlane.errors import FourlaneError

        try:
            return super().invoke(ctx)
        except FourlaneError as error:
            for line in str(error).splitlines():
                _complain(ctx, line)
            ctx.exit(1)


def _complain(ctx: click.Context, line: str) -> None:
    """To whoever called, or where a program that runs on says all."""
    if not ctx.find_root().meta.get(_RUNS_ON):
        click.echo(f"error: {line}", err=True)
        return
    from fourlane.observe.logs import announce

    announce(line, logging.ERROR)


Group.group_class = Group


def json_option() -> click.Option:
    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            ctx.find_root().meta["json"] = True

    return click.Option(["--json"], is_flag=True, expose_value=False, callback=remember, help="Print JSON.")


def wants_json() -> bool:
    return bool(click.get_current_context().find_root().meta.get("json"))


def settings_of_program() -> Settings:
    """For a command that runs on: from here on it says all in log lines, what is wrong with its settings too."""
    from fourlane.config import load_settings
    from fourlane.config.groups.deployment import canonical
    from fourlane.errors import SettingsError
    from fourlane.observe import Observe, configure_logs, observe_of

    click.get_current_context().find_root().meta[_RUNS_ON] = True
    try:
        settings = load_settings()
    except SettingsError:
        environment = canonical(os.environ.get("FOURLANE_ENVIRONMENT") or "local")
        configure_logs(Observe(environment=environment, service=os.environ.get("FOURLANE_SERVICE") or "default"))
        raise
    configure_logs(observe_of(settings))
    return settings


def _log_for_machines(settings: Settings) -> None:
    """What a command answers is for who called it; what is logged meanwhile is for whoever reads all other lines."""
    if settings.environment == "local":
        return
    from fourlane.observe import configure_logs, observe_of

    level = settings.log_level if settings.log_level == "ERROR" else "WARN"
    configure_logs(observe_of(settings.model_copy(update={"log_level": level})))


@contextmanager
def open_app(settings: Settings | None = None) -> Iterator[App]:
    """All that the settings describe now, or these ones, closed at the end."""
    from fourlane.app import App
    from fourlane.config import load_settings

    if settings is None:
        settings = load_settings()
        _log_for_machines(settings)
    app = App(settings)
    try:
        yield app
    finally:
        app.close()


@contextmanager
def open_store(settings: Settings | None = None) -> Iterator[Store]:
    """The jobs that the settings point at."""
    with open_app(settings) as app:
        yield app.store


def present_folder() -> str:
    """Raises SettingsError: it was removed, or its name is no text."""
    from fourlane.errors import SettingsError

    try:
        folder = os.getcwd()
        folder.encode()
        return folder
    except UnicodeEncodeError:
        raise SettingsError("the folder that this runs in has bytes in its name that are no UTF-8 text") from None
    except FileNotFoundError:
        raise SettingsError("the folder that this runs in was removed; change to one that is there") from None


def import_here(modules: Iterable[str]) -> None:
    """Import the program's modules, which are looked for in the present folder first. Raises ModuleError."""
    from fourlane.own import import_modules

    sys.path.insert(0, present_folder())
    import_modules(modules)


def print_json(value: Any) -> None:
    import msgspec

    from fourlane.queues.words import writable

    click.echo(writable(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False)))


def say(text: str, **fields: Any) -> None:
    """The outcome of a command: a sentence, or its fields as JSON."""
    if wants_json():
        print_json(fields)
    else:
        click.echo(text)


def confirm(question: str, yes: bool) -> None:
    """Ask before much is changed or something destroyed. With nobody to ask, only ``--yes`` will do."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this needs a yes, and there is no terminal to ask at; say --yes")
    click.confirm(question, abort=True, err=True)


def fail(text: str) -> NoReturn:
    click.echo(f"error: {text}", err=True)
    click.get_current_context().exit(1)


class Duration(click.ParamType):  # type: ignore[type-arg]
    """``90s``, ``10m``, ``2h``, ``7d`` and sums such as ``1h30m``, as milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip().lower()
        parts = _DURATION.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            self.fail(f"{value!r} is no duration; write a number and a unit, such as 30s, 10m, 2h or 7d", param, ctx)
        milliseconds = sum(float(number) * _UNITS_MS[unit] for number, unit in parts)
        if milliseconds > _LONGEST_MS:
            self.fail(f"{value!r:.100} is longer than 100 years", param, ctx)
        return round(milliseconds)


class Number(click.FloatRange):
    """A number in a range; what Python calls numbers beside, ``nan`` and ``inf``, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


class Json(click.ParamType):  # type: ignore[type-arg]
    """A JSON value, of one kind."""

    name = "json"

    def __init__(self, kind: type = object, words: str = "a JSON value") -> None:
        self.kind, self.words = kind, words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            read = read_json(value)
        except ValueError as error:
            self.fail(f"is not JSON: {error}", param, ctx)
        if not isinstance(read, self.kind):
            self.fail(f"is not {self.words}", param, ctx)
        return read


def yes_option(command: C) -> C:
    return click.option("--yes", is_flag=True, help="Do not ask.")(command)


def job_argument(command: C) -> C:
    """One job: ``ID``, and ``--queue`` where ids of several queues may be the same."""
    command = click.option("--queue", help="Where to look; else everywhere.")(command)
    return click.argument("job_id", metavar="ID")(command)
