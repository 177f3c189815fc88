"""``fourlane dead``: find dead letters, replay, discard, edit, carry them to files and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from fourlane import private
from fourlane.commands.jobs import print_job
from fourlane.commands.shared import (
    Duration,
    Group,
    Json,
    Number,
    confirm,
    fail,
    job_argument,
    open_store,
    print_json,
    say,
    wants_json,
    yes_option,
)
from fourlane.commands.text import human_age, moment, since, table
from fourlane.reasons import REASONS

if TYPE_CHECKING:
    from fourlane.queues.dead_letters import AuditRecord, Filter
    from fourlane.queues.store import Store

__all__ = ["dead"]

C = TypeVar("C", bound=Callable[..., Any])


@click.group(cls=Group)
def dead() -> None:
    """Dead letters: jobs that will not run again by themselves."""


def _filter_options(command: C) -> C:
    for option in reversed(
        [
            click.option("--queue", help="Only this queue's."),
            click.option("--task", help="Only this task's."),
            click.option("--tenant", help="Only this tenant's."),
            click.option("--reason", type=click.Choice(list(REASONS)), help="Only those that died of this."),
            click.option("--older-than", type=Duration(), help="Died longer ago: 10m, 2h, 7d."),
            click.option("--newer-than", type=Duration(), help="Died less long ago: 10m, 2h, 7d."),
        ]
    ):
        command = option(command)
    return command


def _filter(older_than: int | None, newer_than: int | None, **words: str | None) -> Filter:
    from fourlane.queues.dead_letters import Filter

    return Filter(older_than_ms=older_than, newer_than_ms=newer_than, **words)


def _check_queue(store: Store, queue: str | None) -> None:
    """A misspelt queue is an error, and not an empty list."""
    from fourlane.queues import browse

    if queue is not None:
        browse.known_queue(store, queue)


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
    with open_store() as store:
        _check_queue(store, chosen.queue)
        page = dead_letters.find(store, chosen, cursor, limit)
        reads_all = chosen.task is not None or chosen.tenant is not None or chosen.reason is not None
        total = None if reads_all else dead_letters.count(store, chosen)
    if wants_json():
        print_json({"letters": page.letters, "cursor": page.cursor, "total": total})
        return
    table(
        ["ID", "DIED", "QUEUE", "TASK", "TENANT", "REASON", "ATTEMPTS", "DETAIL"],
        [(i.id, since(i.died_at_ms), i.queue, i.task, i.tenant, i.reason, i.attempts, i.detail) for i in page.letters],
        "no dead letters",
    )
    if page.letters and total is not None and total > len(page.letters):
        click.echo(f"\n{total:,} in all", nl=not page.cursor)
    if page.cursor:
        click.echo(f"{'; ' if total is not None else chr(10)}next page: --cursor {page.cursor}")


@dead.command("show")
@job_argument
def dead_show(job_id: str, queue: str | None) -> None:
    """Show a dead letter with its arguments and errors."""
    from fourlane.queues import dead_letters

    with open_store() as store:
        info = dead_letters.show(store, job_id, queue)
    print_job(info)


@dead.command("replay")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_filter_options
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@click.option("--rate", type=Number(0.000_001, 1_000_000), help="Jobs a second; else all at once.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@yes_option
def dead_replay(
    ids: tuple[str, ...], everything: bool, rate: float | None, dry_run: bool, yes: bool, **filters: Any
) -> None:
    """Make dead letters ready again: those with these IDs, those that fit, or --all."""
    from fourlane.queues import dead_letters

    def over(number: int) -> str:
        return f", one after another for {human_age(number / rate * 1000)}" if rate else ""

    _act(
        "replay",
        partial(dead_letters.replay, rate_per_second=rate),
        ids,
        everything,
        filters,
        dry_run,
        yes or bool(ids),
        over,
    )


@dead.command("discard")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_filter_options
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@yes_option
def dead_discard(ids: tuple[str, ...], everything: bool, dry_run: bool, yes: bool, **filters: Any) -> None:
    """Drop dead letters for good: those with these IDs, those that fit, or --all."""
    from fourlane.queues import dead_letters

    _act("discard", dead_letters.discard, ids, everything, filters, dry_run, yes)


def _act(
    verb: str,
    do: Callable[..., int],
    ids: tuple[str, ...],
    everything: bool,
    filters: dict[str, Any],
    dry_run: bool,
    yes: bool,
    over: Callable[[int], str] = lambda number: "",
) -> None:
    """Count, ask, do, tell."""
    which = _which(ids, everything, filters)
    past = verb + "ed"
    with open_store() as store:
        _check_queue(store, filters["queue"])
        number = do(store, which, dry_run=True, queue=filters["queue"])
        if dry_run:
            say(f"{number:,} dead letter(s) would be {past}{over(number)}", **{f"would_{verb}": number})
            return
        if number:
            confirm(f"{verb.capitalize()} {number:,} dead letter(s){over(number)}?", yes)
        number = do(store, which, queue=filters["queue"])
    say(f"{past} {number:,} dead letter(s){over(number)}", **{past: number})


@dead.command("edit")
@click.argument("job_id", metavar="ID")
@click.option("--args", type=Json(list, "a JSON array"), help="The new arguments, a JSON array.")
@click.option("--kwargs", type=Json(dict, "a JSON object"), help="The new keyword arguments, a JSON object.")
@click.option("--queue", help="Where to look; else everywhere.")
@yes_option
def dead_edit(job_id: str, args: list[Any] | None, kwargs: dict[str, Any] | None, queue: str | None, yes: bool) -> None:
    """Give a dead letter other arguments, before a replay."""
    from fourlane.queues import dead_letters

    if args is None and kwargs is None:
        raise click.UsageError("give --args, --kwargs or both")
    with open_store() as store:
        before = dead_letters.show(store, job_id, queue)
        confirm(f"Replace the arguments of {job_id} ({before.task}), which are lost then?", yes)
        info = dead_letters.edit(store, job_id, args=args, kwargs=kwargs, queue=queue)
    print_job(info)


@dead.command("export")
@_filter_options
@click.option("--output", "-o", type=click.Path(dir_okay=False, allow_dash=True), default="-", help="File.")
def dead_export(output: str, **filters: Any) -> None:
    """Write dead letters as lines of JSON (with --json: one array)."""
    from fourlane.queues import dead_letters

    with open_store() as store:
        _check_queue(store, filters["queue"])
        found = dead_letters.export(store, _filter(**filters))
        # The first is read before the file is touched: where Redis cannot be reached, an older export stays.
        first = next(found, None)
        lines = found if first is None else chain([first], found)
        try:
            with click.open_file("-", "w") if output == "-" else private.opened(output) as file:
                number = _write(file, lines)
        except BrokenPipeError:
            raise  # whoever read it has had enough; click ends quietly
        except OSError as error:
            fail(f"cannot write {output}: {error.strerror}; what it holds now is incomplete")
    if output != "-":
        click.echo(f"wrote {number:,} dead letter(s) to {output}", err=True)


def _write(file: IO[str], lines: Iterator[str]) -> int:
    number = 0
    array = wants_json()
    for number, line in enumerate(lines, 1):
        if array:
            file.write("[" if number == 1 else ",\n")
        file.write(line if array else line + "\n")
    if array:
        file.write("]\n" if number else "[]\n")
    return number


@dead.command("audit")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="The latest so many.")
def dead_audit(limit: int) -> None:
    """Show who replayed, discarded, edited and imported, the latest first."""
    from fourlane.queues import dead_letters

    with open_store() as store:
        records = dead_letters.audit(store, limit)
    if wants_json():
        print_json({"records": records})
        return
    table(
        ["WHEN", "WHO", "ACTION", "COUNT", "WHICH"],
        [(moment(r.when_ms), r.who, r.action, r.count, _which_words(r)) for r in records],
        "nothing was done to dead letters yet",
    )


def _which_words(record: AuditRecord) -> str:
    if record.ids:
        return " ".join(record.ids)
    if record.filter is None:  # an import: its file said which
        return ""
    words = {
        name.removesuffix("_ms").replace("_", " "): human_age(value) if name.endswith("_ms") else value
        for name, value in record.filter.items()
    }
    return ", ".join(f"{name} {value}" for name, value in words.items()) or "all"


@dead.command("import")
@click.argument("file", type=click.File("rb"), default="-")
def dead_import(file: IO[bytes]) -> None:
    """Take in dead letters that export wrote; ids that exist are skipped."""
    from fourlane.queues import dead_letters

    with open_store() as store:
        done = dead_letters.import_(store, file)
    say(
        f"took in {done.taken:,} dead letter(s), skipped {done.skipped:,} whose ids exist",
        taken=done.taken,
        skipped=done.skipped,
    )
