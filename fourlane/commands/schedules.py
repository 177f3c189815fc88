"""``fourlane schedules``, and ``fourlane scheduler``, which runs one alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar
from zoneinfo import ZoneInfo

import click

from fourlane.commands.shared import (
    Duration,
    Group,
    Json,
    confirm,
    import_here,
    open_store,
    print_json,
    say,
    settings_of_program,
    wants_json,
    yes_option,
)
from fourlane.commands.text import human_age, one_line, since, table

if TYPE_CHECKING:
    from fourlane.queues.history import Run
    from fourlane.queues.schedules import Schedule
    from fourlane.scheduler.manage import Found

__all__ = ["scheduler", "schedules"]

C = TypeVar("C", bound=Callable[..., Any])
_SHOWN: Final = 5


def _named(command: C) -> C:
    """One schedule: ``NAME``, and ``--service`` where several services have one of this name."""
    command = click.option("--service", help="Where to look; else everywhere.")(command)
    return click.argument("name")(command)


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def schedules(ctx: click.Context) -> None:
    """Cron rules, intervals and dates that make jobs. Without a subcommand: list."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(schedules_list)


@schedules.command("list")
@click.option("--service", help="Only this service's.")
def schedules_list(service: str | None = None) -> None:
    """Show all schedules, when they fire next, and how late they fired last."""
    from fourlane.scheduler import manage

    with open_store() as store:
        found = list(manage.every_schedule(store, service))
    if wants_json():
        print_json({"schedules": [_fields(f) for f in found]})
        return
    table(
        ["NAME", "SERVICE", "TASK", "RULE", "NEXT", "LAST", "LATE BY", "RUNS", "SKIPPED", "FROM"],
        [
            (
                f.schedule.name,
                f.schedule.service,
                f.schedule.task,
                _rule(f.schedule),
                _next(f),
                since(f.fired_ms or None),
                human_age(f.late_ms) if f.fired_ms else "-",
                f.state.runs,
                f.state.skipped,
                "code" if f.schedule.module else "run time",
            )
            for f in found
        ],
        "there are no schedules",
    )


@schedules.command("show")
@_named
def schedules_show(name: str, service: str | None) -> None:
    """Show one schedule: its rule, its options, its next times."""
    from fourlane.queues.schedules import now_ms
    from fourlane.scheduler import manage

    with open_store() as store:
        found = manage.find(store, name, service)
        after = now_ms(store, found.schedule.service)
    schedule = found.schedule
    times = [] if found.state.paused or not found.state.next_ms else manage.times(schedule, after, _SHOWN)
    if wants_json():
        print_json(_fields(found) | {"next": [_both(t, schedule.timezone) for t in times]})
        return
    arguments = [*map(repr, schedule.args), *(f"{key}={value!r}" for key, value in schedule.kwargs.items())]
    if schedule.sealed:
        arguments = ["encrypted"]
    lines = [
        ("name", schedule.name),
        ("task", one_line(f"{schedule.task}({', '.join(arguments)})", 200)),
        ("service", schedule.service),
        ("tier", f"P{schedule.tier}"),
        ("rule", _rule(schedule)),
        ("from", schedule.place or "run time"),
        ("next", _next(found)),
        ("last", since(found.fired_ms or None)),
        ("late by", f"{found.late_ms:,} ms" if found.fired_ms else ""),
        ("runs", f"{found.state.runs:,}" + (f" of {schedule.max_runs:,}" if schedule.max_runs else "")),
        ("skipped", f"{found.state.skipped:,}" if found.state.skipped else ""),
        ("start", _local(schedule.start_ms, schedule.timezone) if schedule.start_ms else ""),
        ("end", _local(schedule.end_ms, schedule.timezone) if schedule.end_ms else ""),
        ("catch up", f"{schedule.catch_up}, within {human_age(schedule.catch_up_window_ms)}"),
        ("overlap", schedule.overlap),
        ("spread", human_age(schedule.spread_ms) if schedule.spread_ms else ""),
        ("jitter", human_age(schedule.jitter_ms) if schedule.jitter_ms else ""),
    ]
    for label, value in lines:
        if value:
            click.echo(f"{label:9} {value}")
    _print_times(times, schedule.timezone)


@schedules.command("preview")
@click.argument("expression")
@click.option("--timezone", default="UTC", help="An IANA name; UTC by default.")
@click.option("--twice/--once", default=None, help="Whether a time that comes twice, when clocks go back, fires twice.")
@click.option("--from", "start", help="Look from this moment on, such as 2026-10-24T12:00; now by default.")
@click.option("--count", type=click.IntRange(1, 1000), default=10, show_default=True)
def schedules_preview(expression: str, timezone: str, twice: bool | None, start: str | None, count: int) -> None:
    """Show when EXPRESSION, a cron expression, would fire, in local time and UTC."""
    from fourlane.scheduler.rules import Cron, read_zone

    rule = Cron(expression, timezone, twice)
    after = datetime.now(UTC) if start is None else _moment(start, read_zone(timezone))
    moment: int | None = int(after.timestamp() * 1000) - (start is not None)
    times: list[int] = []
    while len(times) < count and moment is not None and (moment := rule.next(moment)) is not None:
        times.append(moment)
    if wants_json():
        print_json({"expression": expression, "timezone": timezone, "next": [_both(t, timezone) for t in times]})
    else:
        _print_times(times, timezone)


@schedules.command("add")
@click.argument("name")
@click.option("--task", required=True, help="The task to run.")
@click.option("--module", "modules", multiple=True, help="A module that declares the task; may be repeated.")
@click.option("--cron", help="A cron expression of 5 or 6 fields, or @hourly and the like.")
@click.option("--timezone", help="An IANA name, for --cron and for times without an offset; UTC by default.")
@click.option("--twice/--once", default=None, help="Whether a time that comes twice, when clocks go back, fires twice.")
@click.option("--every", type=Duration(), help="An interval, such as 90s or 2h.")
@click.option("--anchor", help="The moment from which --every counts.")
@click.option("--at", "dates", multiple=True, help="A single moment, such as 2026-12-24T18:00; may be repeated.")
@click.option("--args", "args", type=Json(list, "a list"), default="[]", help="Positional arguments, a JSON list.")
@click.option("--kwargs", "kwargs", type=Json(dict, "an object"), default="{}", help="Named arguments, a JSON object.")
@click.option("--tier", help="P3 by default.")
@click.option("--start", help="No run before this moment.")
@click.option("--end", help="No run after this moment.")
@click.option("--max-runs", type=click.IntRange(1), help="Runs in all.")
@click.option("--spread", type=Duration(), help="Fire later by up to so much, always the same.")
@click.option("--jitter", type=Duration(), help="Fire later by up to so much, each time another.")
@click.option("--catch-up", type=click.Choice(["none", "last", "all"]), help="Which missed runs; last by default.")
@click.option("--catch-up-window", type=Duration(), help="How old a missed run may be; 1h by default.")
@click.option("--overlap", type=click.Choice(["skip", "queue", "replace", "allow"]), help="skip by default.")
@click.option("--late-after", type=Duration(), help="Warn of jobs made later than this; 60s by default.")
def schedules_add(name: str, task: str, modules: tuple[str, ...], **given: Any) -> None:
    """Add the schedule NAME, or replace it: what is not given takes its default."""
    from fourlane.errors import UnknownTask
    from fourlane.scheduler.declare import add
    from fourlane.scheduler.rules import read_zone
    from fourlane.tasks.task import default_broker

    import_here(modules)
    actor = default_broker().actors.get(task)
    if actor is None:
        known = ", ".join(sorted(default_broker().actors))
        raise UnknownTask(f"no task {task!r}; known: {known}. Name its module with --module")
    zone = read_zone(given["timezone"] or "UTC")
    options: dict[str, Any] = {
        "at": [_moment(text, zone) for text in given.pop("dates")],
        "args": given.pop("args"),
        "kwargs": given.pop("kwargs"),
    }
    for word in ("spread", "jitter", "catch_up_window", "late_after"):
        if (milliseconds := given.pop(word)) is not None:
            options[f"{word}_seconds"] = milliseconds / 1000
    for word in ("start", "end", "anchor"):
        if (text := given.pop(word)) is not None:
            options[word] = _moment(text, zone)
    if (interval := given.pop("every")) is not None:
        options["every"] = timedelta(milliseconds=interval)
    options |= {key: value for key, value in given.items() if value is not None}
    schedule = add(actor, name, **options)
    say(f"{name}: {_rule(schedule)}", schedule=schedule)


@schedules.command("fire")
@_named
def schedules_fire(name: str, service: str | None) -> None:
    """Make a job of the schedule NAME now, besides those of its rule. Prints the job's id."""
    from fourlane.scheduler import manage

    with open_store() as store:
        job_id = manage.fire(store, name, service)
    say(job_id, id=job_id)


@schedules.command("pause")
@_named
def schedules_pause(name: str, service: str | None) -> None:
    """Let the schedule NAME fire no more until it is resumed; deploys do not change that."""
    from fourlane.scheduler import manage

    with open_store() as store:
        changed = manage.pause(store, name, service)
    say(f"{name} is paused" + ("" if changed else ", and was before"), name=name, changed=changed)


@schedules.command("resume")
@_named
def schedules_resume(name: str, service: str | None) -> None:
    """End a pause; what would have fired meanwhile does not."""
    from fourlane.scheduler import manage

    with open_store() as store:
        changed = manage.resume(store, name, service)
        found = manage.find(store, name, service)
    words = f"{name} fires next: {_next(found)}" if changed else f"{name} was not paused"
    say(words, name=name, changed=changed)


@schedules.command("remove")
@_named
@click.option("--force", is_flag=True, help="Also one that code declares; the next worker that starts adds it again.")
@yes_option
def schedules_remove(name: str, service: str | None, force: bool, yes: bool) -> None:
    """Remove the schedule NAME and its history; the jobs that it made stay."""
    from fourlane.scheduler import manage

    confirm(f"Remove the schedule {name}?", yes)
    with open_store() as store:
        manage.remove(store, name, service, force=force)
    say(f"{name} is removed", name=name)


@schedules.command("history")
@_named
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
def schedules_history(name: str, service: str | None, limit: int) -> None:
    """Show the last runs of the schedule NAME, the newest first; 100 are kept."""
    from fourlane.scheduler import manage

    with open_store() as store:
        zone = manage.find(store, name, service).schedule.timezone
        runs = manage.history(store, name, service)[:limit]
    if wants_json():
        print_json({"runs": runs})
        return
    table(
        ["FOR", "STATE", "LATE BY", "TOOK", "JOB"],
        [(_for(run, zone), _state(run), _late(run), _took(run), run.job) for run in runs],
        "no runs yet",
    )


@click.command()
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
def scheduler(modules: tuple[str, ...]) -> None:
    """Fire schedules, and do nothing else. Declares those of the MODULEs first.

    Any number may run, beside workers with --scheduler: each time fires once. Needs no MODULE, for workers
    declare what their modules say. SIGTERM and Ctrl-C stop it.
    """
    import signal

    from fourlane.observe.logs import announce
    from fourlane.queues.kept import Keeper
    from fourlane.queues.rights import check_whole
    from fourlane.scheduler.declare import synchronise
    from fourlane.scheduler.ticker import Scheduler
    from fourlane.sealing import check_keys
    from fourlane.tasks.task import default_broker
    from fourlane.tasks.upkeep import maintenance
    from fourlane.watchdog import Watchdog, ping_of

    settings = settings_of_program()
    with open_store(settings) as store:
        check_whole(store)
        seconds, _ = store.connector.command(store.keys.services, "TIME")
        boot_ms = int(seconds) * 1000
        if modules:
            import_here(modules)
            check_keys(default_broker().actors.values())

        def declare() -> None:
            maintenance.synchronise(store, maintenance.housekeeping(settings), boot_ms)
            if modules:
                broker = default_broker()
                broker.store.forget_announced()
                synchronise(broker, boot_ms)

        declare()
        keeper = Keeper(store, declare)
        watchdog = Watchdog()
        running = Scheduler(store, watchdog)
        for caught in (signal.SIGTERM, signal.SIGINT):
            signal.signal(caught, lambda *_: running.stop())
        announce(f"scheduler {running.name} is up")
        watchdog.start(ping_of(store.connector, store.keys.edits))
        running.run()
        keeper.stop()


# Words -----------------------------------------------------------------------------------------------------


def _moment(text: str, zone: ZoneInfo) -> datetime:
    """A moment; without an offset it is local time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"{text!r} is no moment; write such as 2026-12-24T18:00 or ...T18:00+01:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def _rule(schedule: Schedule) -> str:
    if schedule.cron:
        return schedule.cron + (f" {schedule.timezone}" if schedule.timezone != "UTC" else "")
    if schedule.every_ms:
        return f"every {human_age(schedule.every_ms)}"
    return f"{len(schedule.at_ms)} date(s)"


def _next(found: Found) -> str:
    if found.state.paused:
        return "paused"
    return _local(found.state.next_ms, found.schedule.timezone) if found.state.next_ms else "over"


def _local(at_ms: int, timezone: str) -> str:
    local = datetime.fromtimestamp(at_ms / 1000, ZoneInfo(timezone))
    return f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()}"


def _both(at_ms: int, timezone: str) -> dict[str, str]:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return {"local": moment.astimezone(ZoneInfo(timezone)).isoformat(), "utc": moment.isoformat()}


def _print_times(times: list[int], timezone: str) -> None:
    if times:
        table([timezone, "UTC"], [(_local(t, timezone), _local(t, "UTC")[:-4]) for t in times], "")


def _fields(found: Found) -> dict[str, Any]:
    from msgspec import structs, to_builtins

    fields: dict[str, Any] = to_builtins(structs.asdict(found.schedule)) | {
        "paused": found.state.paused,
        "next_ms": found.state.next_ms or None,
        "due_ms": found.due_ms or None,
        "runs": found.state.runs,
        "skipped": found.state.skipped,
        "queued_for_ms": found.state.queued_ms or None,
        "last_job": found.state.job or None,
        "fired_ms": found.fired_ms or None,
        "late_ms": found.late_ms if found.fired_ms else None,
    }
    return fields


def _for(run: Run, zone: str) -> str:
    if run.missed_from_ms is not None and run.missed_from_ms != run.nominal_ms:
        return f"{_local(run.missed_from_ms, zone)} to {_local(run.nominal_ms, zone)}"
    return _local(run.nominal_ms, zone)


def _state(run: Run) -> str:
    return f"{run.state}, by hand" if run.manual else run.state


def _late(run: Run) -> str:
    return f"{run.late_ms:,} ms" if run.job and run.state not in ("skipped", "queued") and not run.manual else ""


def _took(run: Run) -> str:
    return "" if run.duration_ms is None else human_age(run.duration_ms)
