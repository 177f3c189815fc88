"""The command line: parses, calls fourlane.queues, prints. What it does is done there.

Modules that a command needs are imported when it runs, so that ``fourlane --help`` is quick.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click
from click.shell_completion import get_completion_class

from fourlane import cli_run

if TYPE_CHECKING:
    from fourlane.job import JobInfo
    from fourlane.queues.dead_letters import Filter
    from fourlane.queues.store import Store

__all__ = ["main"]

C = TypeVar("C", bound=Callable[..., Any])

_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_LEVEL_COLORS: Final = {"ok": "green", "warn": "yellow", "error": "red"}


# What all commands share -----------------------------------------------------------------------------------


class Group(click.Group):
    """A group whose commands, groups among them, all take ``--json`` and tell our errors in a line."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        if not any("--json" in parameter.opts for parameter in cmd.params):
            cmd.params.append(_json_option())
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:
        from fourlane.errors import FourlaneError

        try:
            return super().invoke(ctx)
        except FourlaneError as error:
            for line in str(error).splitlines():
                click.echo(f"error: {line}", err=True)
            ctx.exit(1)


Group.group_class = Group


def _json_option() -> click.Option:
    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            ctx.find_root().meta["json"] = True

    return click.Option(["--json"], is_flag=True, expose_value=False, callback=remember, help="Print JSON.")


def _wants_json() -> bool:
    return bool(click.get_current_context().find_root().meta.get("json"))


@contextmanager
def _store() -> Iterator[Store]:
    from fourlane.app import open_store
    from fourlane.config import load_settings

    store = open_store(load_settings())
    try:
        yield store
    finally:
        store.connector.close()


def _print_json(value: Any) -> None:
    import msgspec

    click.echo(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))


def _say(text: str, **fields: Any) -> None:
    """The outcome of a command: a sentence, or its fields as JSON."""
    if _wants_json():
        _print_json(fields)
    else:
        click.echo(text)


def _confirm(question: str, yes: bool) -> None:
    """Ask before much is changed or something destroyed. With nobody to ask, only ``--yes`` will do."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this needs a yes, and there is no terminal to ask at; say --yes")
    click.confirm(question, abort=True, err=True)


def _fail(text: str) -> NoReturn:
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
        return round(sum(float(number) * _UNITS_MS[unit] for number, unit in parts))


class Json(click.ParamType):  # type: ignore[type-arg]
    """A JSON value of one kind."""

    name = "json"

    def __init__(self, kind: type, words: str) -> None:
        self.kind, self.words = kind, words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            read = json.loads(value)
        except ValueError as error:
            self.fail(f"is not JSON: {error}", param, ctx)
        if not isinstance(read, self.kind):
            self.fail(f"is not {self.words}", param, ctx)
        return read


def _yes_option(command: C) -> C:
    return click.option("--yes", is_flag=True, help="Do not ask.")(command)


# Words and tables ------------------------------------------------------------------------------------------


def human_age(milliseconds: float | None) -> str:
    """``3m 12s``: the two largest units; ``-`` for None."""
    if milliseconds is None:
        return "-"
    seconds = int(milliseconds / 1000)
    if seconds < 1:
        return f"{max(0, int(milliseconds))}ms"
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if seconds >= size or parts:
            parts.append(f"{seconds // size}{unit}")
            seconds %= size
    return " ".join(part for part in parts[:2] if part[0] != "0")


def _since(at_ms: int | None) -> str:
    return "-" if at_ms is None else human_age(max(0.0, time.time() * 1000 - at_ms)) + " ago"


def _moment(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_ms / 1000))


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], nothing: str) -> None:
    """Aligned columns, numbers to the right."""
    lines = [[_cell(value) for value in row] for row in rows]
    if not lines:
        click.echo(nothing)
        return
    widths = [max(len(line[i]) for line in [list(head), *lines]) for i in range(len(head))]
    right = [all(line[i].replace(",", "").isdigit() or line[i] == "-" for line in lines) for i in range(len(head))]
    for line in [list(head), *lines]:
        cells = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True))
        click.echo("  ".join(cells).rstrip())


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return _one_line(str(value))


def _one_line(text: str, most: int = 60) -> str:
    """Stored text fit for a terminal: one line, no control characters, not too long."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= most else text[: most - 1] + "…"


def _lines(text: str) -> str:
    """Stored text of several lines, without the control characters that could steer a terminal."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


# The commands ----------------------------------------------------------------------------------------------


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fourlane", prog_name="fourlane")
def main() -> None:
    """Background jobs in four priority lanes on Redis."""


main.params.append(_json_option())


@main.group(invoke_without_command=True)
@click.pass_context
def queues(ctx: click.Context) -> None:
    """What waits in the queues. Without a subcommand: list."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(queues_list)


@queues.command("list")
def queues_list() -> None:
    """Show every queue: ready, dead, age of the oldest, pause and limit."""
    from fourlane.queues import browse

    with _store() as store:
        services = browse.services(store)
    if _wants_json():
        _print_json({"services": services})
        return
    _table(
        ["QUEUE", "READY", "OLDEST", "DEAD", "STATE", "LIMIT"],
        [
            (
                queue.name,
                queue.ready,
                human_age(queue.oldest_age_ms),
                queue.dead,
                "paused" if queue.paused else "",
                _limit_words(queue.limit),
            )
            for service in services
            for queue in service.queues
        ],
        "no queues yet: nothing was ever enqueued here",
    )
    if services:
        click.echo()
        _table(
            ["SERVICE", "RUNNING", "DELAYED", "NEXT DUE IN", "WORKERS"],
            [
                (
                    service.name,
                    service.running,
                    service.delayed,
                    human_age(service.next_due_in_ms),
                    service.workers,
                )
                for service in services
            ],
            "",
        )


@queues.command("pause")
@click.argument("queue")
def queues_pause(queue: str) -> None:
    """Let no further job of QUEUE start; what runs goes on."""
    from fourlane.queues import browse, control

    with _store() as store:
        place = browse.queue_of(store, queue)
        if place.service not in store.services():
            click.echo(f"warning: no job or worker of {place.service} was ever seen", err=True)
        changed = control.pause(store, place)
        name = place.name(store.environment)
    _say(
        f"{name} is paused" if changed else f"{name} was paused already",
        queue=name,
        paused=True,
        changed=changed,
    )


@queues.command("resume")
@click.argument("queue")
def queues_resume(queue: str) -> None:
    """End the pause of QUEUE."""
    from fourlane.queues import browse, control

    with _store() as store:
        place = browse.queue_of(store, queue)
        changed = control.resume(store, place)
        name = place.name(store.environment)
    _say(
        f"{name} runs again" if changed else f"{name} was not paused",
        queue=name,
        paused=False,
        changed=changed,
    )


@queues.command("purge")
@click.argument("queue")
@_yes_option
def queues_purge(queue: str, yes: bool) -> None:
    """Drop the ready and delayed jobs of QUEUE."""
    from fourlane.queues import browse, control

    with _store() as store:
        place = browse.queue_of(store, queue)
        name = place.name(store.environment)
        _confirm(f"Drop all ready and delayed jobs of {name}?", yes)
        dropped = control.purge(store, place)
    _say(f"dropped {dropped:,} job(s) of {name}", queue=name, dropped=dropped)


@main.command()
def workers() -> None:
    """Show the worker processes."""
    from fourlane.queues import browse

    with _store() as store:
        found = browse.workers(store)
    if _wants_json():
        _print_json({"workers": found})
        return
    _table(
        [
            "WORKER",
            "HOST",
            "PID",
            "STARTED",
            "SEEN",
            "PROCESSES",
            "SLOTS",
            "ASYNC",
            "HELD",
            "VERSION",
            "STATE",
            "QUEUES",
        ],
        [
            (
                worker.name,
                worker.host,
                str(worker.pid),
                _since(worker.started_ms),
                _since(worker.seen_ms),
                worker.processes,
                worker.slots,
                worker.concurrency,
                worker.held,
                worker.version,
                "lost" if worker.lost else "running",
                ", ".join(worker.queues),
            )
            for worker in found
        ],
        "no workers",
    )


@main.group()
def jobs() -> None:
    """Look at a job, or cancel it."""


@jobs.command("show")
@click.argument("job_id", metavar="ID")
@click.option("--queue", help="Where to look; else everywhere.")
def jobs_show(job_id: str, queue: str | None) -> None:
    """Show all that is known of a job."""
    from fourlane.queues import browse

    with _store() as store:
        info = browse.job(store, job_id, queue)
    _print_job(info)


@jobs.command("cancel")
@click.argument("job_id", metavar="ID")
@click.option("--queue", help="Where to look; else everywhere.")
@_yes_option
def jobs_cancel(job_id: str, queue: str | None, yes: bool) -> None:
    """Cancel a job, whatever state it is in; a running one is told."""
    from fourlane.job import State
    from fourlane.queues import control

    _confirm(f"Cancel job {job_id}?", yes)
    with _store() as store:
        state = control.cancel(store, job_id, queue)
    if state is State.UNKNOWN:
        _fail(f"there is no job {job_id!r}")
    if state is State.RUNNING:
        text = f"job {job_id} runs; its worker is told to stop it"
    elif state is State.CANCELLED:
        text = f"job {job_id} was cancelled already"
    else:
        text = f"job {job_id} is cancelled; it was {state}"
    _say(text, id=job_id, was=state)


def _print_job(info: JobInfo) -> None:
    if _wants_json():
        _print_json(info)
        return
    rows: list[tuple[str, Any]] = [
        ("id", info.id),
        ("queue", info.queue),
        ("state", info.state.value),
        ("task", info.task),
        ("args", json.dumps(info.args, ensure_ascii=False)),
        ("kwargs", json.dumps(info.kwargs, ensure_ascii=False)),
        ("options", json.dumps(info.options, ensure_ascii=False) if info.options else None),
        ("attempts", info.attempts or None),
        ("crashes", info.crashes or None),
        ("worker", info.worker or None),
        ("reason", info.reason or None),
        ("detail", info.detail or None),
    ]
    for name, value in rows:
        if value is not None:
            click.echo(f"{name:<10}{_lines(str(value))}")
    for name, at_ms in (
        ("enqueued", info.enqueued_at_ms),
        ("due", info.due_at_ms),
        ("died", info.died_at_ms),
    ):
        if at_ms is not None:
            ago = f"in {human_age(at_ms - time.time() * 1000)}" if at_ms > time.time() * 1000 else _since(at_ms)
            click.echo(f"{name:<10}{_moment(at_ms)} ({ago})")
    for number, attempt in enumerate(info.errors, 1):
        where = f" on {attempt.worker}" if attempt.worker else ""
        click.echo(f"\nerror {number}, {_moment(attempt.at_ms)}{where}: {_lines(attempt.error)}")
        if attempt.traceback:
            click.echo(_lines(attempt.traceback).rstrip())


# Dead letters ----------------------------------------------------------------------------------------------


@main.group()
def dead() -> None:
    """Dead letters: jobs that will not run again by themselves."""


def _filter_options(command: C) -> C:
    for option in reversed(
        [
            click.option("--queue", help="Only this queue's."),
            click.option("--task", help="Only this task's."),
            click.option("--reason", help="Only these: error, rejected, expired, unknown-task, poison."),
            click.option("--older-than", type=Duration(), help="Died longer ago: 10m, 2h, 7d."),
            click.option("--newer-than", type=Duration(), help="Died less long ago: 10m, 2h, 7d."),
        ]
    ):
        command = option(command)
    return command


def _filter(
    queue: str | None, task: str | None, reason: str | None, older_than: int | None, newer_than: int | None
) -> Filter:
    from fourlane.queues.dead_letters import Filter

    return Filter(queue=queue, task=task, reason=reason, older_than_ms=older_than, newer_than_ms=newer_than)


def _which(ids: tuple[str, ...], everything: bool, filters: dict[str, Any]) -> Filter | list[str]:
    """Ids or a filter, and never all by an empty command line."""
    narrowed = [name for name, value in filters.items() if value is not None]
    if ids:
        if everything or set(narrowed) - {"queue"}:
            raise click.UsageError("give ids, or --all or filters, not both")
        return list(ids)
    if not narrowed and not everything:
        raise click.UsageError("give ids, a filter such as --task, or --all")
    return _filter(**filters)


@dead.command("list")
@_filter_options
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Rows of a page.")
@click.option("--cursor", "--page", default="", help="The next page: what the page before gave.")
def dead_list(limit: int, cursor: str, **filters: Any) -> None:
    """List dead letters, the latest first."""
    from fourlane.queues import dead_letters

    chosen = _filter(**filters)
    with _store() as store:
        page = dead_letters.find(store, chosen, cursor, limit)
        total = dead_letters.count(store, chosen) if chosen.task is None and chosen.reason is None else None
    if _wants_json():
        _print_json({"letters": page.letters, "cursor": page.cursor, "total": total})
        return
    _table(
        ["ID", "DIED", "QUEUE", "TASK", "REASON", "ATTEMPTS", "DETAIL"],
        [(i.id, _since(i.died_at_ms), i.queue, i.task, i.reason, i.attempts, i.detail) for i in page.letters],
        "no dead letters",
    )
    if page.letters and total is not None and total > len(page.letters):
        click.echo(f"\n{total:,} in all", nl=not page.cursor)
    if page.cursor:
        click.echo(f"{'; ' if total is not None else chr(10)}next page: --cursor {page.cursor}")


@dead.command("show")
@click.argument("job_id", metavar="ID")
@click.option("--queue", help="Where to look; else everywhere.")
def dead_show(job_id: str, queue: str | None) -> None:
    """Show a dead letter with its arguments and errors."""
    from fourlane.queues import dead_letters

    with _store() as store:
        info = dead_letters.show(store, job_id, queue)
    _print_job(info)


@dead.command("replay")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_filter_options
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@click.option("--rate", type=float, help="Jobs a second; else all at once.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@_yes_option
def dead_replay(
    ids: tuple[str, ...], everything: bool, rate: float | None, dry_run: bool, yes: bool, **filters: Any
) -> None:
    """Make dead letters ready again: those with these IDs, those that fit, or --all."""
    from fourlane.queues import dead_letters

    which = _which(ids, everything, filters)
    if rate is not None and not 0 < rate < float("inf"):
        raise click.UsageError("--rate must be over 0")
    with _store() as store:
        if dry_run:
            number = dead_letters.replay(store, which, dry_run=True, queue=filters["queue"])
            _say(f"{number:,} dead letter(s) would be replayed", would_replay=number)
            return
        if not isinstance(which, list):
            number = dead_letters.count(store, which)
            if number:
                _confirm(f"Replay {number:,} dead letter(s)?", yes)
        number = dead_letters.replay(store, which, rate_per_second=rate, queue=filters["queue"])
    _say(f"replayed {number:,} dead letter(s)", replayed=number)


@dead.command("discard")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_filter_options
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@_yes_option
def dead_discard(ids: tuple[str, ...], everything: bool, dry_run: bool, yes: bool, **filters: Any) -> None:
    """Drop dead letters for good: those with these IDs, those that fit, or --all."""
    from fourlane.queues import dead_letters

    which = _which(ids, everything, filters)
    with _store() as store:
        number = dead_letters.discard(store, which, dry_run=True, queue=filters["queue"])
        if dry_run:
            _say(f"{number:,} dead letter(s) would be discarded", would_discard=number)
            return
        _confirm(f"Discard {number:,} dead letter(s) for good?", yes)
        number = dead_letters.discard(store, which, queue=filters["queue"])
    _say(f"discarded {number:,} dead letter(s)", discarded=number)


@dead.command("edit")
@click.argument("job_id", metavar="ID")
@click.option("--args", type=Json(list, "a JSON array"), help="The new arguments, a JSON array.")
@click.option("--kwargs", type=Json(dict, "a JSON object"), help="The new keyword arguments, a JSON object.")
@click.option("--queue", help="Where to look; else everywhere.")
@_yes_option
def dead_edit(job_id: str, args: list[Any] | None, kwargs: dict[str, Any] | None, queue: str | None, yes: bool) -> None:
    """Give a dead letter other arguments, before a replay."""
    from fourlane.queues import dead_letters

    if args is None and kwargs is None:
        raise click.UsageError("give --args, --kwargs or both")
    with _store() as store:
        before = dead_letters.show(store, job_id, queue)
        _confirm(f"Replace the arguments of {job_id} ({before.task}), which are lost then?", yes)
        info = dead_letters.edit(store, job_id, args=args, kwargs=kwargs, queue=queue)
    _print_job(info)


@dead.command("export")
@_filter_options
@click.option("--output", "-o", type=click.File("w", encoding="utf-8", lazy=False), default="-", help="File.")
def dead_export(output: IO[str], **filters: Any) -> None:
    """Write dead letters as lines of JSON (with --json: one array)."""
    from fourlane.queues import dead_letters

    with _store() as store:
        lines = dead_letters.export(store, _filter(**filters))
        if _wants_json():
            output.write("[" + ",\n".join(lines) + "]\n")
            return
        for line in lines:
            output.write(line + "\n")


@dead.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8"), default="-")
def dead_import(file: IO[str]) -> None:
    """Take in dead letters that export wrote; ids that exist are skipped."""
    from fourlane.queues import dead_letters

    with _store() as store:
        done = dead_letters.import_(store, file)
    _say(
        f"took in {done.taken:,} dead letter(s), skipped {done.skipped:,}",
        taken=done.taken,
        skipped=done.skipped,
    )


# Limits ----------------------------------------------------------------------------------------------------


@main.group(invoke_without_command=True)
@click.pass_context
def limits(ctx: click.Context) -> None:
    """Rates and concurrency of the queues. Without a subcommand: show."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(limits_show)


def _limit_words(limit: Any) -> str:
    words: list[str] = []
    if limit is not None and limit.rate is not None:
        words.append(f"{limit.rate:,} per {human_age(limit.per_ms)}")
        if limit.burst is not None:
            words.append(f"burst {limit.burst:,}")
    if limit is not None and limit.concurrency is not None:
        words.append(f"{limit.concurrency:,} at once")
    return ", ".join(words)


@limits.command("show")
@click.argument("queue", required=False)
def limits_show(queue: str | None) -> None:
    """Show what is paused or limited."""
    from fourlane.queues import browse, control

    with _store() as store:
        found = control.limits(store)
        if queue is not None:
            name = browse.queue_of(store, queue).name(store.environment)
            found = {name: found[name]} if name in found else {}
    if _wants_json():
        _print_json({"limits": found})
        return
    _table(
        ["QUEUE", "STATE", "LIMIT", "SOURCE"],
        [(name, "paused" if limit.paused else "", _limit_words(limit), limit.source) for name, limit in found.items()],
        "nothing is paused or limited",
    )


@limits.command("set")
@click.argument("queue")
@click.option("--rate", type=click.IntRange(1), help="Jobs that may start in --per.")
@click.option("--per", type=Duration(), help="1s by default.")
@click.option("--burst", type=click.IntRange(1), help="Jobs that may start together; as many as --rate by default.")
@click.option("--concurrency", type=click.IntRange(1), help="Jobs that may run at once, over all workers.")
def limits_set(queue: str, rate: int | None, per: int | None, burst: int | None, concurrency: int | None) -> None:
    """Limit QUEUE. What is not given stays as it is."""
    from fourlane.queues import browse, control

    if rate is per is burst is concurrency is None:
        raise click.UsageError("give --rate or --concurrency")
    with _store() as store:
        place = browse.queue_of(store, queue)
        limit = control.set_limit(store, place, rate=rate, per_ms=per, burst=burst, concurrency=concurrency)
        name = place.name(store.environment)
    _say(f"{name}: {_limit_words(limit)}", queue=name, limit=limit)


@limits.command("clear")
@click.argument("queue")
def limits_clear(queue: str) -> None:
    """Remove the limits of QUEUE; a pause stays."""
    from fourlane.queues import browse, control

    with _store() as store:
        place = browse.queue_of(store, queue)
        changed = control.clear(store, place)
        name = place.name(store.environment)
    _say(f"{name} has no limit" + ("" if changed else ", and had none"), queue=name, changed=changed)


# The rest --------------------------------------------------------------------------------------------------


@main.command()
def config() -> None:
    """Show every setting with its source; secrets are hidden."""
    from fourlane.config import load_settings

    rows = load_settings().describe()
    if _wants_json():
        _print_json({"settings": [{"name": n, "value": v, "source": s} for n, v, s in rows]})
        return
    width = max(len(name) for name, _, _ in rows)
    for name, value, source in rows:
        click.echo(f"{name:<{width}}  {_lines(value)}  ({source})")


@main.command()
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Look for what is wrong with the server and the keys. Exit code 1 when there is an error."""
    from fourlane.queues import browse
    from fourlane.queues.doctor import Level, examine

    with _store() as store:
        findings = examine(store, workers=browse.workers(store))
    if _wants_json():
        _print_json({"findings": findings})
    else:
        for finding in findings:
            level = click.style(f"{finding.level.value:<5}", fg=_LEVEL_COLORS[finding.level.value])
            click.echo(f"{level}  {finding.name:<12}  {_lines(finding.text)}")
            if finding.fix:
                click.echo(f"{'':<21}→ {finding.fix}")
    if any(finding.level is Level.ERROR for finding in findings):
        ctx.exit(1)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL, e.g. eval "$(fourlane completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None
    source = kind(main, {}, "fourlane", "_FOURLANE_COMPLETE").source()
    _say(source, shell=shell, script=source)


# The commands that run things -------------------------------------------------------------------------------

for _command in (cli_run.worker, cli_run.dev, cli_run.enqueue):
    main.add_command(_command)

if __name__ == "__main__":
    main()
