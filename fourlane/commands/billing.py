"""``fourlane billing``: a payment provider's books against ours."""

from __future__ import annotations

import csv
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from fourlane import private
from fourlane.commands.db import open_database
from fourlane.commands.shared import Duration, Group, confirm, fail, print_json, wants_json
from fourlane.commands.text import moment, table

if TYPE_CHECKING:
    from fourlane.db.engine import Database
    from fourlane.db.models import ReconciliationFinding
    from fourlane.providers.payments import Period

__all__ = ["billing"]

_PROVIDERS: Final = click.Choice(["stripe", "paypal"])
_SHOWN: Final = 50
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a formula begins; the wide forms too."""
_COLUMNS: Final = (
    "kind",
    "object",
    "provider_id",
    "account",
    "our_table",
    "our_id",
    "provider_amount_minor",
    "provider_currency",
    "provider_status",
    "our_amount_minor",
    "our_currency",
    "our_status",
    "occurred_at",
    "first_found_at",
    "repaired_at",
    "resolved_at",
    "fingerprint",
)


@click.group(cls=Group)
def billing() -> None:
    """A payment provider's books against ours."""


@billing.command("reconcile")
@click.option("--provider", type=_PROVIDERS, required=True)
@click.option("--from", "start", help="A date or a time, included. Yesterday by default.")
@click.option("--to", "end", help="A date or a time, not included. The day after --from by default.")
@click.option("--timezone", default="UTC", show_default=True, help="Of --from and --to.")
@click.option("--margin", type=Duration(), default="1d", show_default=True, help="Read beyond the period's edges.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write findings to FILE.csv or .json.")
@click.option("--repair", is_flag=True, help="Put right what is safe, after showing it.")
@click.option("--dry-run", is_flag=True, help="With --repair: only show it.")
@click.option("--yes", is_flag=True, help="With --repair: do not ask.")
def reconcile(
    provider: str,
    start: str | None,
    end: str | None,
    timezone: str,
    margin: int,
    report: Path | None,
    repair: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Compare a period's books. One that was interrupted goes on where it stopped."""
    if report is not None and report.suffix not in (".csv", ".json"):
        raise click.UsageError(f"--report {report}: its name must end with .csv or .json")
    if dry_run and not repair:
        raise click.UsageError("--dry-run goes with --repair; without it nothing is changed anyway")
    from fourlane.config import load_settings
    from fourlane.providers.setup import books as provider_books
    from fourlane.tasks.billing.reconciliation import reconcile_period

    period = _period(start, end, timezone)
    books = provider_books(load_settings(), provider)
    with open_database() as database:
        summary = reconcile_period(database, books, period, margin=timedelta(milliseconds=margin), on_page=_progress())
        books.close()
        if report is not None:
            _write(report, _rows(database, summary.run_id))
        plan = _repair(database, summary.run_id, dry_run, yes) if repair else None
        if wants_json():
            found = list(_rows(database, summary.run_id, most=10_000))
            shown: dict[str, Any] = {
                "run": summary.run_id.hex,
                "provider": provider,
                "from": period.start.isoformat(),
                "to": period.end.isoformat(),
                "pages": summary.pages,
                "compared": summary.compared,
                "resumed": summary.resumed,
                "found": summary.found,
                "findings": found,
            }
            print_json(shown if plan is None else shown | {"repairs": plan})
            return
        click.echo(("resumed; " if summary.resumed else "") + summary.text())
        _show(database, summary.run_id)
    if report is not None:
        click.echo(f"written to {report}")


@billing.command("runs")
@click.option("--provider", type=_PROVIDERS, help="Only its runs.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
def runs(provider: str | None, limit: int) -> None:
    """The latest runs."""
    from fourlane.tasks.billing.runs import latest

    with open_database() as database:
        found = [
            {
                "run": run.id.hex,
                "provider": run.provider,
                "from": run.period_start.isoformat(timespec="minutes"),
                "to": run.period_end.isoformat(timespec="minutes"),
                "status": run.status,
                "compared": run.compared,
                "found": run.found,
                "repaired": run.repaired,
                "error": run.error,
            }
            for run in latest(database, provider, limit)
        ]
    if wants_json():
        print_json({"runs": found})
        return
    names = ["run", "provider", "from", "to", "status", "compared", "found", "repaired", "error"]
    table([name.upper() for name in names], [[run[name] for name in names] for run in found], "no runs")


@billing.command("findings")
@click.argument("run")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write them to FILE.csv or .json.")
def findings(run: str, report: Path | None) -> None:
    """What a RUN found, and later runs have not found again."""
    from fourlane.tasks.billing.runs import exists

    try:
        run_id = uuid.UUID(run)
    except ValueError:
        raise click.UsageError(f"{run!r} is no run's id; `fourlane billing runs` lists them") from None
    if report is not None and report.suffix not in (".csv", ".json"):
        raise click.UsageError(f"--report {report}: its name must end with .csv or .json")
    with open_database() as database:
        if not exists(database, run_id):
            fail(f"there is no run {run}; `fourlane billing runs` lists them")
        if report is not None:
            _write(report, _rows(database, run_id))
            click.echo(f"written to {report}")
        elif wants_json():
            print_json({"findings": list(_rows(database, run_id))})
        else:
            _show(database, run_id)


def _period(start: str | None, end: str | None, timezone: str) -> Period:
    from fourlane.tasks.billing.reconciliation import period_of

    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise click.UsageError(f"--timezone {timezone!r} is not known; write one such as Europe/Berlin") from None
    now = datetime.now(zone)
    first = _moment("--from", start, zone) if start else _midnight(now, zone, -1)
    last = _moment("--to", end, zone) if end else _midnight(first, zone, 1)
    return period_of(first.astimezone(UTC), last.astimezone(UTC), now=now.astimezone(UTC))


def _moment(option: str, text: str, zone: ZoneInfo) -> datetime:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"{option} {text!r} is no date; write 2026-01-31 or 2026-01-31T12:00") from None
    return read if read.tzinfo is not None else read.replace(tzinfo=zone)


def _midnight(moment: datetime, zone: ZoneInfo, days: int) -> datetime:
    """By the calendar: a day on which the clocks change has 23 or 25 hours."""
    day = moment.astimezone(zone).date() + timedelta(days=days)
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _progress() -> Any:
    """Tell of the pages on a terminal, where one may wait for long."""
    import sys

    def told(run: Any) -> None:
        if sys.stderr.isatty() and not wants_json():
            place = run.cursor.get("part") or run.cursor.get("table") or "done"
            click.echo(f"\r  {run.pages:,} pages, {place:<20}", nl=place == "done", err=True)

    return told


def _rows(database: Database, run_id: uuid.UUID, most: int | None = None) -> Iterator[dict[str, Any]]:
    from fourlane.tasks.billing.findings import findings as found_by

    for number, finding in enumerate(found_by(database, run_id)):
        if number == most:
            return
        row = {name: getattr(finding, name, None) for name in _COLUMNS}
        row |= {name: finding.details.get(name) for name in ("object", "account")}
        row["first_found_at"] = finding.created_at
        row["our_id"] = finding.our_id.hex if finding.our_id else None
        yield {name: v.isoformat() if isinstance(v, datetime) else v for name, v in row.items()}


def _write(report: Path, rows: Iterator[dict[str, Any]]) -> None:
    try:
        with private.opened(report) as file:
            if report.suffix == ".csv":
                writer = csv.DictWriter(file, _COLUMNS)
                writer.writeheader()
                writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
                return
            file.write("[")
            for number, row in enumerate(rows):
                file.write((",\n " if number else "\n ") + json.dumps(row, ensure_ascii=False))
            file.write("\n]\n")
    except OSError as error:
        fail(f"{report}: cannot be written: {error.strerror}")


def _plain(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: ids and statuses are what others named them."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _show(database: Database, run_id: uuid.UUID) -> None:
    from fourlane.tasks.billing.findings import findings as found_by

    shown: list[tuple[Any, ...]] = []
    more = 0
    for finding in found_by(database, run_id):
        if len(shown) == _SHOWN:
            more += 1
            continue
        shown.append(
            (
                finding.kind,
                finding.details.get("object"),
                finding.provider_id,
                _amount(finding, "provider"),
                _amount(finding, "our"),
                finding.provider_status,
                finding.our_status,
                moment(int(finding.occurred_at.timestamp() * 1000)) if finding.occurred_at else None,
            )
        )
    if shown:
        table(["KIND", "OBJECT", "ID", "THERE", "HERE", "STATUS THERE", "HERE", "WHEN"], sorted(shown, key=str), "")
    if more:
        click.echo(f"and {more:,} more; --report FILE.csv writes all")


def _amount(finding: ReconciliationFinding, whose: str) -> str | None:
    from fourlane import money

    minor, currency = getattr(finding, f"{whose}_amount_minor"), getattr(finding, f"{whose}_currency")
    if minor is None:
        return None
    try:
        return money.show(minor, currency or "")
    except money.UnknownCurrency:
        return f"{minor} {currency}"


def _repair(database: Database, run_id: uuid.UUID, dry_run: bool, yes: bool) -> list[dict[str, Any]]:
    """Show what would be done, ask, do it. A list of what was planned, and whether it was done."""
    import getpass

    from fourlane.tasks.billing import repairs
    from fourlane.tasks.billing.findings import findings as found_by

    actor = f"cli:{getpass.getuser()}"
    plan = [
        (finding, sentence)
        for finding in found_by(database, run_id)
        if finding.repaired_at is None and (sentence := repairs.repair_of(finding)) is not None
    ]
    quiet = wants_json()
    for _, sentence in plan if not quiet else ():
        click.echo(f"{'would' if dry_run else 'will'} {sentence}")
    if not plan and not quiet:
        click.echo("nothing that is safe to repair")
    if plan and not dry_run:
        confirm(f"Make {len(plan):,} repair(s)?", yes)
    done: list[dict[str, Any]] = []
    for finding, sentence in plan:
        made = not dry_run and repairs.repair(database, finding, actor=actor, now=datetime.now(UTC))
        done.append({"repair": sentence, "finding": finding.id.hex, "done": made})
    if plan and not dry_run and not quiet:
        made_count = sum(repair["done"] for repair in done)
        click.echo(f"repaired {made_count:,}, left {len(done) - made_count:,} as they were")
    return done
