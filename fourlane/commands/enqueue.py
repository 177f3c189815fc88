"""``fourlane enqueue``: a job from the shell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from fourlane.commands.shared import Json, Number, import_here, say
from fourlane.jsontext import read_json

__all__ = ["enqueue"]

_LONGEST_DELAY_SECONDS = 10 * 366 * 86_400


@click.command()
@click.argument("task")
@click.argument("args", nargs=-1)
@click.option("--module", "modules", multiple=True, help="A module that declares the task; may be repeated.")
@click.option(
    "--kwargs", "kwargs", type=Json(dict, "a JSON object"), default="{}", help="Named arguments, a JSON object."
)
@click.option("--delay", type=Number(0, _LONGEST_DELAY_SECONDS), help="Seconds until it may run.")
@click.option("--tenant", help="The organization on whose behalf it runs.")
def enqueue(
    task: str,
    args: tuple[str, ...],
    modules: tuple[str, ...],
    kwargs: dict[str, Any],
    delay: float | None,
    tenant: str | None,
) -> None:
    """Enqueue a job of TASK. Each of ARGS is JSON, or else text; put -- before those that begin with a dash."""
    from fourlane.errors import UnknownTask
    from fourlane.tasks.task import Task, default_broker

    import_here(modules)
    actor = default_broker().actors.get(task)
    if actor is None:
        known = ", ".join(sorted(default_broker().actors))
        raise UnknownTask(f"no task {task!r}; known: {known}. Name its module with --module")
    values = [_value(text) for text in args]
    milliseconds = int(delay * 1000) if delay else None
    with _telling_whose_fault(task):
        if isinstance(actor, Task):
            job_id = actor.send_with_options(args=values, kwargs=kwargs, delay=milliseconds, tenant=tenant).id
        else:
            options = {"tenant": tenant} if tenant else {}
            sent = actor.send_with_options(args=tuple(values), kwargs=kwargs, delay=milliseconds, **options)
            job_id = sent.message_id
    say(job_id, id=job_id)


@contextmanager
def _telling_whose_fault(task: str) -> Iterator[None]:
    """A task's own functions are asked for its lines, and to check: their errors keep their traceback."""
    from fourlane.errors import FourlaneError
    from fourlane.tasks.modules import place_of

    try:
        yield
    except FourlaneError:
        raise
    except Exception as error:
        if place := place_of(error):
            click.echo(f"error: no job was made: the code of {task} failed ({place})", err=True)
        raise


def _value(text: str) -> Any:
    if text[:1] in '[{"' or text in ("null", "true", "false") or text.lstrip("-").replace(".", "", 1).isdigit():
        try:
            return read_json(text)
        except ValueError:  # a postcode such as 02134, a template such as {name}
            return text
    return text
