"""``fourlane worker``: settings and options become a supervisor, with a relay and a probe beside it."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from fourlane.app import App
    from fourlane.config import Settings
    from fourlane.queues.store import Store
    from fourlane.worker.process.probe import Probe, Start

__all__ = ["run_options", "supervise", "take_signals", "worker"]


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
    from fourlane.config import load_settings

    sys.exit(supervise(load_settings(), modules, options))


def take_signals(profile: bool) -> None:
    """What signals mean until the supervisor takes them: none ends a worker that starts without a word.

    SIGTERM ends what has nothing in hand; by itself it would not reach the process 1 of a container.
    """
    had_terminal = os.isatty(2)

    def stop(*_: object) -> None:
        sys.exit(0)

    def ignore(number: int, _: object) -> None:
        if number == signal.SIGHUP and had_terminal and not os.isatty(2):
            sys.exit(0)  # a closed terminal sends it: nobody is there to stop this worker any more
        # Not through a stream, for this may come amid a write to it.
        os.write(2, f"{signal.Signals(number).name}: this worker is still starting; ignored\n".encode())

    signal.signal(signal.SIGTERM, stop)
    for number in (signal.SIGHUP, signal.SIGUSR1, *((signal.SIGUSR2,) if profile else ())):
        signal.signal(number, ignore)


def supervise(settings: Any, modules: tuple[str, ...], given: dict[str, Any], where: str = "") -> int:
    """Run until stopped. ``where`` describes the server when its address would say too little."""
    from fourlane.app import App
    from fourlane.worker.process.probe import Start
    from fourlane.worker.process.spec import CANNOT_START

    start = Start()
    with closing(App(settings)) as app:
        if not settings.probe_port:
            return _supervise(app, start, None, modules, given, where)
        try:
            probe = _probe(settings, start)
        except OSError as error:
            click.echo(_why_no_probe(settings, error), err=True)
            return CANNOT_START
        with closing(probe):
            return _supervise(app, start, probe, modules, given, where)


def _supervise(
    app: App, start: Start, probe: Probe | None, modules: tuple[str, ...], given: dict[str, Any], where: str
) -> int:
    from fourlane import observe
    from fourlane.errors import SettingsError
    from fourlane.names import check_service, parse_queue
    from fourlane.queues import browse, control, rights
    from fourlane.tasks.upkeep.beyond import Outside
    from fourlane.worker.process.options import Options
    from fourlane.worker.process.probe import STARTING
    from fourlane.worker.process.start import when_reachable
    from fourlane.worker.process.supervisor import Supervisor

    settings = app.settings
    observed = observe.observe_of(settings)
    observe.check(observed)
    if observed.metrics and not settings.probe_port:
        raise SettingsError("FOURLANE_METRICS: metrics are served on the probe's port; set FOURLANE_PROBE_PORT")
    observe.configure_logs(observed)
    opening, store = app.opening, app.store
    if not where:
        of_dev = "" if settings.redis_url is not None else f", embedded in the `fourlane dev` of {settings.data_dir}"
        where = store.connector.address + of_dev
    click.echo(f"redis: {where}", err=True)
    served = {
        *map(check_service, given["services"]),
        *(parse_queue(name, settings.environment).service for name in given["queues"]),
    }
    keep_house = _housekeeping(settings, store) if given["scheduler"] else None

    def declare() -> None:
        control.declare_limits(store, settings.limits, "settings", services=served or None)
        if keep_house is not None:
            keep_house(boot_ms)

    def greet() -> tuple[int, str | None]:
        rights.check_whole(store)  # and not while it loads its data
        boot_seconds, _ = store.connector.command(store.keys.services, "TIME")
        rights.check(store)
        return int(boot_seconds) * 1000, browse.eviction_policy(store)

    boot_ms, policy = when_reachable(greet, settings.start_wait_seconds, start.hear)
    when_reachable(declare, settings.start_wait_seconds, start.hear)
    start.hear(STARTING)
    if policy not in (None, "noeviction"):
        click.echo(
            f"warning: maxmemory-policy of this Redis is {policy}: it may drop jobs when its memory is full; "
            "set it to noeviction",
            err=True,
        )
    options = Options(
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
        boot_ms=boot_ms,
    )
    outside = Outside(app.root) if settings.probe_port or settings.otlp_metrics else None
    supervisor = Supervisor(store, options, outside=outside, declare=declare)
    if options.watch:
        click.echo(f"watching the .py files in {options.watch}", err=True)

    def ready() -> None:
        services = sorted({s for child in supervisor.children for s in child.table.names()})
        click.echo(
            f"ready: {options.processes} process(es) × {options.slots} slots "
            f"({options.concurrency} async jobs), serving "
            + ", ".join(options.queues or [f"{settings.environment}.jobs.*.{s}" for s in services]),
            err=True,
        )

    supervisor.on_ready = ready
    relays = settings.relay if given["relay"] is None else given["relay"]
    with _relaying(app, supervisor.end_stuck) if relays else nullcontext():
        if probe is not None:
            from fourlane.worker.process.pages import pages

            probe.serve(supervisor.health, pages(supervisor))
        return supervisor.run()


def _housekeeping(settings: Settings, store: Store) -> Callable[[int], None]:
    """What declares the platform's own schedules. Raises SettingsError."""
    from fourlane.tasks.upkeep import maintenance

    times = maintenance.housekeeping(settings)
    return lambda boot_ms: maintenance.synchronise(store, times, boot_ms)


@contextmanager
def _relaying(app: App, end_stuck: Callable[[], None]) -> Iterator[None]:
    """A relay in a thread beside; ``end_stuck`` ends the process when it does nothing any more."""
    from fourlane.db import migrate
    from fourlane.outbox.relay import PATIENCE_SECONDS, relay_of
    from fourlane.watchdog import Watchdog, ping_of

    store = app.opening.open().store  # of its own: it waits longer than others
    relay = relay_of(app.root, store)
    if app.settings.database_url is None:
        migrate.migrate(relay.database)  # SQLite is ready to use, as the embedded server is
    click.echo(f"outbox: {relay.database}", err=True)
    stop = threading.Event()
    watchdog = Watchdog(PATIENCE_SECONDS, end_stuck)
    watchdog.start(ping_of(store.connector, store.keys.services))
    thread = threading.Thread(target=relay.run, args=[stop, watchdog], name="fourlane-relay", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        store.connector.close()


def _probe(settings: Settings, start: Start) -> Probe:
    """Opened before Redis is waited for: who waits is alive. Raises OSError."""
    from fourlane.worker.process.pages import pages_of_start
    from fourlane.worker.process.probe import Probe

    host = settings.probe_host
    if host is None:
        host = "127.0.0.1" if settings.environment == "local" else ""
    return Probe(settings.probe_port, start.health, pages_of_start(start), host=host)


def _why_no_probe(settings: Settings, error: OSError) -> str:
    host, port = settings.probe_host, settings.probe_port
    where = f"port {port}" if host is None else f"{host}, port {port}"
    why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"error: FOURLANE_PROBE_HOST: cannot listen on {where} ({why}); name an address of this machine"
    return f"error: FOURLANE_PROBE_PORT: cannot listen on {where} ({why}); choose another"
