"""``fourlane jobs``: look at a job, cancel it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from fourlane.commands.shared import (
    Group,
    confirm,
    fail,
    job_argument,
    open_store,
    print_json,
    say,
    wants_json,
    yes_option,
)
from fourlane.commands.text import human_age, lines, moment, since

if TYPE_CHECKING:
    from fourlane.job import JobInfo

__all__ = ["jobs", "print_job"]


@click.group(cls=Group)
def jobs() -> None:
    """Look at a job, or cancel it."""


@jobs.command("show")
@job_argument
def jobs_show(job_id: str, queue: str | None) -> None:
    """Show all that is known of a job."""
    from fourlane.queues import browse

    with open_store() as store:
        info = browse.job(store, job_id, queue)
    print_job(info)


@jobs.command("cancel")
@job_argument
@yes_option
def jobs_cancel(job_id: str, queue: str | None, yes: bool) -> None:
    """Cancel a job, whatever state it is in; a running one is told."""
    from fourlane.job import State
    from fourlane.queues import control

    confirm(f"Cancel job {job_id}?", yes)
    with open_store() as store:
        # No task is known here: any may have callbacks.
        state = control.cancel(store, job_id, queue, has_callbacks=lambda task: True)
    if state is State.UNKNOWN:
        fail(f"there is no job {job_id!r}")
    if state is State.RUNNING:
        text = f"job {job_id} runs; its worker is told to stop it"
    elif state is State.CANCELLED:
        text = f"job {job_id} was cancelled already"
    else:
        text = f"job {job_id} is cancelled; it was {state}"
    say(text, id=job_id, was=state)


def _arguments(info: JobInfo) -> list[tuple[str, Any]]:
    from fourlane.codec import SEALED

    if SEALED in info.options:
        return [("args", "encrypted")]
    return [(name, json.dumps(getattr(info, name), ensure_ascii=False)) for name in ("args", "kwargs")]


def print_job(info: JobInfo) -> None:
    """All that is known of a job."""
    if wants_json():
        print_json(info)
        return
    rows: list[tuple[str, Any]] = [
        ("id", info.id),
        ("queue", info.queue),
        ("state", info.state.value),
        ("task", info.task),
        ("tenant", info.tenant or None),
        *_arguments(info),
        ("options", json.dumps(info.options, ensure_ascii=False) if info.options else None),
        ("attempts", info.attempts or None),
        ("crashes", info.crashes or None),
        ("worker", info.worker or None),
        ("reason", info.reason or None),
        ("detail", info.detail or None),
    ]
    for name, value in rows:
        if value is not None:
            click.echo(f"{name:<10}{lines(str(value))}")
    for name, at_ms in (
        ("enqueued", info.enqueued_at_ms),
        ("due", info.due_at_ms),
        ("died", info.died_at_ms),
    ):
        if at_ms is not None:
            ago = f"in {human_age(at_ms - time.time() * 1000)}" if at_ms > time.time() * 1000 else since(at_ms)
            click.echo(f"{name:<10}{moment(at_ms)} ({ago})")
    for number, attempt in enumerate(info.errors, 1):
        where = f" on {attempt.worker}" if attempt.worker else ""
        click.echo(f"\nerror {number}, {moment(attempt.at_ms)}{where}: {lines(attempt.error)}")
        if attempt.traceback:
            click.echo(lines(attempt.traceback).rstrip())
