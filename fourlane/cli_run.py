"""The commands that run things: worker, dev, enqueue. Parse, call, print."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

__all__ = ["dev", "enqueue", "worker"]


def _run_options(command: Any) -> Any:
    for option in (
        click.option("--log-jobs", is_flag=True, help="A log line for every finished job."),
        click.option("--scheduler/--no-scheduler", default=None, help="Fire schedules too; `dev` does by default."),
        click.option("--watch", is_flag=True, help="Restart the processes when a .py file here changes."),
        click.option("--concurrency", type=click.IntRange(1), help="async jobs at once in each process."),
        click.option("--slots", type=click.IntRange(1), help="Plain functions at once in each process."),
        click.option("--processes", type=click.IntRange(1), help="Worker processes."),
        click.option("--services", multiple=True, help="Serve all tiers of this service; may be repeated."),
        click.option("--queues", multiple=True, help="Serve this queue; may be repeated."),
        click.argument("modules", nargs=-1, metavar="[MODULE]..."),
    ):
        command = option(command)
    return command


@click.command()
@_run_options
def worker(modules: tuple[str, ...], **options: Any) -> None:
    """Run jobs of the tasks that the MODULEs declare.

    SIGTERM and Ctrl-C stop gracefully, a second Ctrl-C at once; SIGHUP restarts the processes one by one.
    """
    from fourlane.config import load_settings

    sys.exit(_supervise(load_settings(), modules, options))


@click.command()
@_run_options
def dev(modules: tuple[str, ...], **options: Any) -> None:
    """Run a worker for development, on an embedded server when REDIS_URL is not set."""
    from fourlane.config import load_settings
    from fourlane.embedded import EmbeddedRedis

    options["log_jobs"] = True
    if options["scheduler"] is None:
        options["scheduler"] = True
    settings = load_settings()
    if settings.redis_url is not None:
        click.echo("redis: REDIS_URL", err=True)
        sys.exit(_supervise(settings, modules, options))
    with EmbeddedRedis.open(settings.data_dir) as server:
        click.echo(f"redis: embedded {server.version}, data in {settings.data_dir}", err=True)
        os.environ["REDIS_URL"] = server.url
        code = _supervise(load_settings(), modules, options)
    sys.exit(code)


def _supervise(settings: Any, modules: tuple[str, ...], given: dict[str, Any]) -> int:
    from fourlane.app import open_store
    from fourlane.queues import control
    from fourlane.worker.supervisor import Options, Supervisor

    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    store = open_store(settings)
    boot_seconds, _ = store.connector.command(store.keys.services, "TIME")
    control.declare_limits(store, settings.limits, "settings")
    options = Options(
        modules=list(modules),
        queues=list(given["queues"]),
        services=list(given["services"]),
        processes=given["processes"] or settings.processes,
        slots=given["slots"] or settings.slots,
        concurrency=given["concurrency"] or settings.concurrency,
        grace_seconds=settings.grace_seconds,
        log_jobs=given["log_jobs"] or settings.log_jobs,
        log_level=settings.log_level,
        recycle_jobs=settings.recycle_jobs,
        recycle_seconds=settings.recycle_seconds,
        recycle_rss_mb=settings.recycle_rss_mb,
        watch=Path.cwd() if given["watch"] else None,
        scheduler=bool(given["scheduler"]),
        boot_ms=int(boot_seconds) * 1000,
    )
    supervisor = Supervisor(store, options)

    def ready() -> None:
        services = sorted({s for child in supervisor.children for s in child.table.names()})
        click.echo(
            f"ready: {options.processes} process(es) × {options.slots} slots, serving "
            + ", ".join(options.queues or [f"{settings.environment}.jobs.*.{s}" for s in services]),
            err=True,
        )

    supervisor.on_ready = ready
    return supervisor.run()


@click.command()
@click.argument("task")
@click.argument("args", nargs=-1)
@click.option("--module", "modules", multiple=True, help="A module that declares the task; may be repeated.")
@click.option("--kwargs", "named", default="{}", help="Named arguments, a JSON object.")
@click.option("--delay", type=click.FloatRange(0), help="Seconds until it may run.")
def enqueue(task: str, args: tuple[str, ...], modules: tuple[str, ...], named: str, delay: float | None) -> None:
    """Enqueue a job of TASK. Each of ARGS is JSON, or else text."""
    from fourlane.errors import UnknownTask
    from fourlane.tasks.task import Task, default_broker
    from fourlane.worker.process import import_modules

    sys.path.insert(0, os.getcwd())
    try:
        import_modules(list(modules))
    except ModuleNotFoundError as error:
        raise click.UsageError(f"--module: {error}") from None
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
        job_id = actor.send_with_options(args=values, kwargs=kwargs, delay=milliseconds).id
    else:
        job_id = actor.send_with_options(args=tuple(values), kwargs=kwargs, delay=milliseconds).message_id
    click.echo(job_id)


def _value(text: str) -> Any:
    if text[:1] in '[{"' or text in ("null", "true", "false") or text.lstrip("-").replace(".", "", 1).isdigit():
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise click.UsageError(f"the argument {text!r} is no JSON: {error}") from None
    return text
