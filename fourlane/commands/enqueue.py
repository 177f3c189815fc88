"""``fourlane enqueue``: a job from the shell."""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any

import click

from fourlane.commands.shared import say

__all__ = ["enqueue"]

_LONGEST_DELAY_SECONDS = 10 * 366 * 86_400


def _number(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):
        raise click.BadParameter("it must be a number of seconds")
    return value


@click.command()
@click.argument("task")
@click.argument("args", nargs=-1)
@click.option("--module", "modules", multiple=True, help="A module that declares the task; may be repeated.")
@click.option("--kwargs", "named", default="{}", help="Named arguments, a JSON object.")
@click.option(
    "--delay", type=click.FloatRange(0, _LONGEST_DELAY_SECONDS), callback=_number, help="Seconds until it may run."
)
@click.option("--tenant", help="The organization on whose behalf it runs.")
def enqueue(
    task: str, args: tuple[str, ...], modules: tuple[str, ...], named: str, delay: float | None, tenant: str | None
) -> None:
    """Enqueue a job of TASK. Each of ARGS is JSON, or else text; put -- before those that begin with a dash."""
    from fourlane.errors import UnknownTask
    from fourlane.own import import_modules
    from fourlane.tasks.task import Task, default_broker

    sys.path.insert(0, os.getcwd())
    import_modules(list(modules))
    try:
        kwargs = json.loads(named)
    except json.JSONDecodeError as error:
        raise click.UsageError(f"--kwargs is no JSON: {error}") from None
    if not isinstance(kwargs, dict):
        raise click.UsageError("--kwargs must be a JSON object")
    actor = default_broker().actors.get(task)
    if actor is None:
        known = ", ".join(sorted(default_broker().actors))
        raise UnknownTask(f"no task {task!r}; known: {known}. Name its module with --module")
    values = [_value(text) for text in args]
    milliseconds = int(delay * 1000) if delay else None
    if isinstance(actor, Task):
        job_id = actor.send_with_options(args=values, kwargs=kwargs, delay=milliseconds, tenant=tenant).id
    else:
        options = {"tenant": tenant} if tenant else {}
        job_id = actor.send_with_options(args=tuple(values), kwargs=kwargs, delay=milliseconds, **options).message_id
    say(job_id, id=job_id)


def _value(text: str) -> Any:
    if text[:1] in '[{"' or text in ("null", "true", "false") or text.lstrip("-").replace(".", "", 1).isdigit():
        try:
            return json.loads(text)
        except ValueError:  # a postcode such as 02134, a template such as {name}
            return text
    return text
