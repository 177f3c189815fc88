"""``fourlane worker``: settings and options become an assignment, and this program the one that carries it out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import click

from fourlane.commands.shared import present_folder, settings_of_program
from fourlane.worker.process.early_signals import take_signals

if TYPE_CHECKING:
    from fourlane.commands.supervise import Assignment
    from fourlane.config import Settings
    from fourlane.observe import Observe
    from fourlane.queues.opening import Opening
    from fourlane.worker.process.options import Options

__all__ = ["assignment_of", "run_options", "worker"]


_OWN: Final = "fourlane.own"  # by its name, as the program's modules: only the processes load it


def run_options(command: Any) -> Any:
    """The arguments and options that ``worker`` and ``dev`` share."""
    for option in (
        click.option("--profile", is_flag=True, help="Write where the time goes, at the end and at SIGUSR2."),
        click.option("--log-jobs", is_flag=True, help="A log line for every finished job."),
        click.option("--scheduler/--no-scheduler", default=None, help="Fire schedules too; `dev` does by default."),
        click.option("--watch", is_flag=True, help="Restart the processes when a .py file here changes."),
        click.option("--concurrency", type=click.IntRange(1), help="async jobs at once in each process."),
        click.option("--relay/--no-relay", default=None, help="Move the outbox's jobs to Redis too."),
        click.option("--slots", type=click.IntRange(1), help="Plain functions at once in each process."),
        click.option("--processes", type=click.IntRange(1), help="Worker processes."),
        click.option("--services", multiple=True, help="Serve all tiers of this service; may be repeated."),
        click.option("--queues", multiple=True, help="Serve this queue; may be repeated."),
        click.argument("modules", nargs=-1, metavar="[MODULE]..."),
    ):
        command = option(command)
    return command


@click.command()
@run_options
def worker(modules: tuple[str, ...], **options: Any) -> None:
    """Run jobs of the tasks that the MODULEs declare.

    SIGTERM and Ctrl-C stop gracefully, a second Ctrl-C at once; SIGHUP restarts the processes one by one.
    """
    take_signals(options["profile"])
    assignment = assignment_of(settings_of_program(), modules, options)
    from fourlane.commands.supervise import become

    become(assignment)


def assignment_of(settings: Settings, modules: tuple[str, ...], given: dict[str, Any], where: str = "") -> Assignment:
    """What is to be done. ``where`` describes the server when its address would say too little.

    Raises SettingsError.
    """
    from fourlane import observe
    from fourlane.commands.supervise import Assignment
    from fourlane.errors import SettingsError
    from fourlane.names import check_service, parse_queue
    from fourlane.queues.limit import Limit
    from fourlane.queues.opening import opening_of

    present_folder()  # the processes look for the modules in it
    observed = observe.observe_of(settings)
    observe.check(observed)
    if observed.metrics and not settings.probe_port:
        raise SettingsError("FOURLANE_METRICS: metrics are served on the probe's port; set FOURLANE_PROBE_PORT")
    opening = opening_of(settings)
    of_queues = [parse_queue(name, settings.environment).service for name in given["queues"]]
    return Assignment(
        opening=opening,
        options=_options(settings, modules, given, opening, observed),
        limits={
            queue: Limit(rate=limit.rate, per_ms=limit.per_ms, burst=limit.burst, concurrency=limit.concurrency)
            for queue, limit in settings.limits.items()
        },
        served=sorted({*map(check_service, given["services"]), *of_queues}),
        housekeeping=_housekeeping(settings) if given["scheduler"] else None,
        where=where or _address(settings, opening),
        probe_port=settings.probe_port,
        probe_host=settings.probe_host,
        start_wait_seconds=settings.start_wait_seconds,
        relay=bool(settings.relay if given["relay"] is None else given["relay"]),
        warnings=_of_models(settings),
    )


def _of_models(settings: Settings) -> list[str]:
    """What is to be said of AI models that the settings name."""
    if not settings.ai.model_fields_set:
        return []
    from fourlane.tasks.ai.models import ends

    return ends.warnings(settings.ai)


def _address(settings: Settings, opening: Opening) -> str:
    of_dev = "" if settings.redis_url is not None else f", embedded in the `fourlane dev` of {settings.data_dir}"
    return opening.open().store.connector.address + of_dev


def _options(
    settings: Settings, modules: tuple[str, ...], given: dict[str, Any], opening: Opening, observed: Observe
) -> Options:
    from fourlane.worker.process.options import Options

    return Options(
        modules=[_OWN, *modules],
        queues=list(given["queues"]),
        services=list(given["services"]),
        processes=given["processes"] or settings.processes,
        slots=given["slots"] or settings.slots,
        concurrency=given["concurrency"] or settings.concurrency,
        grace_seconds=settings.grace_seconds,
        log_jobs=given["log_jobs"] or settings.log_jobs,
        profile=given["profile"],
        observe=observed,
        recycle_jobs=settings.recycle_jobs,
        recycle_seconds=settings.recycle_seconds,
        recycle_rss_mb=settings.recycle_rss_mb,
        watch=os.getcwd() if given["watch"] else "",
        opening=opening,
        scheduler=bool(given["scheduler"]),
    )


def _housekeeping(settings: Settings) -> dict[str, str]:
    from fourlane.tasks.upkeep import maintenance

    return maintenance.housekeeping(settings)
